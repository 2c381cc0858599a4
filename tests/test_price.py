"""What `gradus plan` tells of a training's price."""

from __future__ import annotations

import gc
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from pipeline.core.artifact import Artifact
from pipeline.core.store import Store
from pipeline.data.arrow import write_split
from pipeline.ladder import make_plan
from pipeline.modeling.outline import outline
from pipeline.modeling.outline_parts import Outline
from pipeline.price_estimate import _followed
from pipeline.price_rows import rows_in
from pipeline.price_view import _work

Gradus = Callable[..., Result]
Refusal = Callable[..., str]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A recipe over a base of 0.3 billion parameters of which there are no weights."""
    folder = tmp_path / "large"
    folder.mkdir()
    config = {
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 32000,
        "hidden_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 6144,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(bytes(64))
    for name, count in (("train", 100), ("test", 10)):
        rows = [{"text": f"{name} words {i}"} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(
        "name: large\nlevel: L1\nbase: .\n"
        "data:\n  train: {path: train.jsonl, format: text}\n"
        "  test: {path: test.jsonl, format: text}\n"
        "train: {objective: cpt, method: lora, max_length: 1024, global_batch_size: 16}\n"
    )
    return path


def prices(gradus: Gradus, *arguments: str | Path) -> dict[str, Any]:
    result = gradus("plan", *arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)["price"]
    return found


def test_the_setting_that_is_named_makes_it_fit_by_the_same_account(
    gradus: Gradus, large: Path
) -> None:
    device = ("--gpu", "l4", "--memory", "4")
    (training,) = prices(gradus, large, *device)["trainings"]
    assert not training["fits"]
    assert training["memory_bytes"]["total"] > 4e9
    remedy = training["remedy"]
    changes = [word for setting in remedy["settings"] for word in ("--set", setting)]
    (mended,) = prices(gradus, large, *device, *changes)["trainings"]
    assert mended["fits"]
    assert mended["memory_bytes"]["total"] == remedy["total_bytes"] <= 4e9
    # No single one before it would have done.
    (first,) = prices(gradus, large, *device, "--set", "train.micro_batch_size=1")["trainings"]
    assert first["fits"] == (remedy["settings"] == ["train.micro_batch_size=1"])


def test_frozen_weights_lie_in_bf16_on_a_gpu_in_shards_too(
    gradus: Gradus, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.training.memory import frozen_in_bf16

    monkeypatch.setattr("pipeline.preflight.gpu_count", lambda: 2)
    file = large.parent / "launch.yaml"
    file.write_text("distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\n")
    launch = ("--set", "train.launch={num_processes: 2, config: launch.yaml}", "--gpu", "h100")
    sharded = {
        precision: prices(gradus, large, *launch, "--set", f"train.precision={precision}")
        for precision in ("bf16", "fp32")
    }
    held = {p: found["trainings"][0]["memory_bytes"] for p, found in sharded.items()}
    # Own share and what is gathered: both of half as many bytes (LoRA itself stays float32).
    assert held["bf16"]["weights"] / held["fp32"]["weights"] == pytest.approx(0.5, abs=0.03)
    cases = [("lora", "bf16", True), ("qlora", "bf16", True), ("full", "bf16", False)]
    for method, precision, kept in cases:
        assert frozen_in_bf16({"method": method, "precision": precision}, gpu=True) == kept
        assert not frozen_in_bf16({"method": method, "precision": precision}, gpu=False)


def test_best_weights_so_far_are_a_copy_in_the_memory_of_a_cpu_only(
    gradus: Gradus, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = ("--set", "train.eval_steps=5", "--set", "train.load_best_model_at_end=true")
    full = ("--set", "train.method=full")
    monkeypatch.setattr("pipeline.devices._own_gpu", lambda: None)
    for device, copies in (((), 1), (("--gpu", "h100"), 0)):
        terms = (*device, "--memory", "100", *full)
        (plain,) = prices(gradus, large, *terms)["trainings"]
        (kept,) = prices(gradus, large, *terms, *best)["trainings"]
        more = kept["memory_bytes"]["total"] - plain["memory_bytes"]["total"]
        assert more == pytest.approx(copies * 4 * plain["trainable_parameters"], abs=2)


def test_what_does_not_fit_is_said_in_one_line(gradus: Gradus, large: Path) -> None:
    result = gradus("plan", large, "--gpu", "rtx4090", "--memory", "2")
    lines = [line for line in result.stdout.splitlines() if "does not fit" in line]
    assert len(lines) == 1
    assert lines[0].strip().startswith("does not fit in 2.0 GB; try --set train.")
    assert "(needs 1." in lines[0]


def test_where_nothing_helps_that_is_said(gradus: Gradus, large: Path) -> None:
    result = gradus("plan", large, "--gpu", "rtx4090", "--memory", "0.9")
    assert "no setting known here makes it fit" in result.stdout


def test_cost_is_hours_times_price_and_hours_are_flops_over_rate(
    gradus: Gradus, large: Path
) -> None:
    tree = prices(gradus, large, "--gpu", "h100", "--price-per-hour", "3", "--mfu", "0.5")
    (training,) = tree["trainings"]
    assert training["hours"] == pytest.approx(training["flops"] / (989.4e12 * 0.5) / 3600)
    assert training["cost"] == pytest.approx(3 * training["hours"])
    # 100 rows of at most 1,024 tokens in one pass, in 7 batches.
    assert (training["updates"], training["tokens"]) == (7, 102_400)
    assert training["work"].startswith("at most")
    assert tree["to_run"]["cost"] == training["cost"]


def test_a_prepared_dataset_is_counted_and_not_bounded(
    gradus: Gradus, large: Path, store: Store, commit: Callable[..., Artifact], tmp_path: Path
) -> None:
    plan = make_plan(large, store)
    prepared = plan.nodes[plan.nodes["large/train.cpt.seed1"].inputs["data"]]
    assert prepared.key is not None
    rows = [
        {"example_id": str(i), "text": "", "input_ids": [1] * (i + 1), "supervised": [1] * (i + 1)}
        for i in range(64)
    ]
    write_split(tmp_path / "train.arrow", rows)
    files = {"train.arrow": (tmp_path / "train.arrow").read_bytes(), "labels.json": b"[]"}
    commit(store, prepared.key, files, "Dataset")
    (training,) = prices(gradus, large, "--gpu", "h100")["trainings"]
    assert training["work"] == "counted"
    assert (training["updates"], training["tokens"]) == (4, 64 * 65 // 2)
    assert training["length"] == 64


def test_a_base_that_is_not_fetched_is_unknown(gradus: Gradus, large: Path) -> None:
    tree = prices(gradus, large, "--set", "base=acme/thing", "--gpu", "h100")
    (training,) = tree["trainings"]
    assert training["unknown"] == "unknown until the base is fetched"
    assert tree["to_run"]["hours"] is None
    result = gradus("plan", large, "--set", "base=acme/thing", "--gpu", "h100")
    assert "unknown until the base is fetched" in result.stdout


def test_without_a_price_the_stages_alone_are_told(gradus: Gradus, ladder: Path) -> None:
    result = gradus("plan", ladder, "--no-price")
    assert "price on" not in result.stdout
    assert json.loads(gradus("plan", ladder, "--no-price", "--json").stdout)["price"] is None


def test_every_training_of_a_ladder_has_a_price_here(gradus: Gradus, ladder: Path) -> None:
    tree = prices(gradus, ladder)
    assert tree["device"]["flops_per_s"] > 1e8
    assert len(tree["trainings"]) == 6
    assert all(t["fits"] and t["parameters"] > 1e4 for t in tree["trainings"])
    assert tree["to_run"]["updates"] == sum(t["updates"] for t in tree["trainings"])


def test_trainings_of_one_shape_are_followed_once(
    gradus: Gradus, ladder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = []

    def counted(*arguments: Any, **named: Any) -> Outline:
        followed.append(named)
        return outline(*arguments, **named)

    monkeypatch.setattr("pipeline.price_estimate.outline", counted)
    _followed.cache_clear()
    seeds = ("--set", "train.seeds=[1, 2, 3]")
    trainings = prices(gradus, ladder, *seeds)["trainings"]
    # pretrain, cpt, sft, classify: neither seeds nor a control have a shape of their own.
    assert len(trainings) > 6
    assert len(followed) == 4
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--gpu", "rtx9999"), "--gpu rtx9999: not in the table; use one of"),
        (("--memory", "-3"), "--memory -3: give gigabytes above 0"),
        (("--memory", "nan"), "--memory nan: give gigabytes above 0"),
        (("--price-per-hour", "-1"), "--price-per-hour -1: give the price of one device"),
        (("--price-per-hour", "inf"), "--price-per-hour inf: give the price of one device"),
        (("--mfu", "40"), "--mfu 40: a share of the peak rate"),
    ],
)
def test_absurd_terms_are_refused(
    refusal: Refusal, large: Path, arguments: tuple[str, ...], words: str
) -> None:
    assert refusal("plan", large, *arguments, "--json").startswith(words)


@pytest.mark.parametrize("priced", [(), ("--no-price",)])
def test_a_broken_config_is_named_in_one_line(
    refusal: Refusal, large: Path, priced: tuple[str, ...]
) -> None:
    for broken, words in (('{"model_type": ', "cannot be read"), ("[]", "no settings of a model")):
        (large.parent / "config.json").write_text(broken)
        message = refusal("plan", large, "--gpu", "h100", *priced)
        assert message.startswith(f"{large.parent / 'config.json'}: ")
        assert words in message
        assert message.endswith("; point base at a model")


@pytest.mark.parametrize(("stage", "whole"), [(2, True), (3, False)])
def test_a_launch_with_zero_2_leaves_weights_whole(
    gradus: Gradus, large: Path, stage: int, whole: bool
) -> None:
    file = large.parent / "zero.yaml"
    file.write_text(f"distributed_type: DEEPSPEED\ndeepspeed_config: {{zero_stage: {stage}}}\n")
    launch = ("--set", "train.launch={num_processes: 8, config: zero.yaml}")
    full = ("--gpu", "h100", "--set", "train.method=full")
    (one,) = prices(gradus, large, *full)["trainings"]
    (eight,) = prices(gradus, large, *full, *launch)["trainings"]
    alone, shared = one["memory_bytes"], eight["memory_bytes"]
    assert (shared["weights"] == alone["weights"]) == whole
    assert shared["optimizer"] == pytest.approx(alone["optimizer"] / 8, abs=1)


def test_of_two_answers_both_are_counted(
    gradus: Gradus, large: Path, store: Store, commit: Callable[..., Artifact], tmp_path: Path
) -> None:
    path = large.parent / "dpo.yaml"
    path.write_text(
        "name: large\nlevel: L1\nbase: .\n"
        "data:\n  train: {path: train.jsonl, format: preference}\n"
        "train: {objective: dpo, max_length: 1024, global_batch_size: 16}\n"
    )
    plan = make_plan(path, store)
    prepared = plan.nodes[plan.nodes["large/train.dpo.seed1"].inputs["data"]]
    assert prepared.key is not None
    rows = [
        {"example_id": str(i), "text": "", "prompt": 1,
         "input_ids": [1] * 10, "supervised": [0] + [1] * 9,
         "rejected_ids": [1] * 40, "rejected_supervised": [0] + [1] * 39}
        for i in range(32)
    ]  # fmt: skip
    write_split(tmp_path / "train.arrow", rows)
    files = {"train.arrow": (tmp_path / "train.arrow").read_bytes(), "labels.json": b"[]"}
    commit(store, prepared.key, files, "Dataset")
    (training,) = prices(gradus, path, "--gpu", "h100")["trainings"]
    assert training["work"] == "counted"
    assert (training["updates"], training["tokens"]) == (2, 32 * (10 + 40))
    assert training["length"] == 40
    found = rows_in(store.path_of(prepared.key), "dpo")
    assert found.targets == 32 * (9 + 39)


def test_export_needs_the_base_in_float32_and_a_full_training_needs_none(
    gradus: Gradus, large: Path
) -> None:
    # Of the shape above: embeddings and output, and of each layer queries, keys, values, output,
    # the gated MLP, norms.
    layer = 2 * 2048 * 2048 + 2 * 2048 * 1024 + 3 * 2048 * 6144 + 2 * 2048 + 2 * 128
    base = 2 * 32000 * 2048 + 4 * layer + 2048
    gpu = ("--gpu", "h100")
    for method, size in (("lora", 4 * base), ("qlora", 4 * base), ("full", None)):
        changes = (*gpu, "--set", f"train.method={method}")
        (training,) = prices(gradus, large, *changes)["trainings"]
        assert training["export_bytes"] == size
    assert f"export: holds the base in float32, {4 * base / 1e9:.1f} GB of main memory" in (
        gradus("plan", large, *gpu).stdout
    )


def test_a_hint_of_several_gpus_works_as_it_is_pasted(
    gradus: Gradus, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(large.parent)
    device = ("--gpu", "l4", "--memory", "4.5", "--set", "train.method=full")
    output = gradus("plan", large, *device, "--set", "train.precision=fp32").stdout
    hint = re.search(r"; try (--set .*) \(needs", output)
    assert hint is not None, output
    assert "accelerate/fsdp.yaml" in hint[1]
    mended = gradus("plan", large, *device, *shlex.split(hint[1]))
    assert mended.exit_code == 0, mended.output


@pytest.mark.parametrize(
    ("cost", "words"),
    [(0.0, "0.00"), (0.000123, "0.00012"), (0.05, "0.050"), (0.1, "0.10"), (1234.5, "1,234.50")],
)
def test_a_small_cost_keeps_two_digits(cost: float, words: str) -> None:
    tree = {"tokens": 1, "updates": 1, "flops": 1.0, "hours": None, "cost": cost}
    assert _work(tree, 0.4).endswith(f", {words} at 0.4 an hour and device")
