"""What a plan refuses before anything is fetched or trained, and what it warns of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from pipeline import preflight
from pipeline.core.errors import RecipeError
from pipeline.core.objectives import pooling_problem
from pipeline.core.schema_train import Train
from pipeline.core.store import Store
from pipeline.ladder import make_plan
from pipeline.plan import Plan
from tests.data.test_chat_tokens import trained

ROWS = [{"text": f"the {i} ship", "label": "ab"[i % 2]} for i in range(12)]
TRAIN = {"objective": "sft", "method": "lora", "lora_r": 4, "precision": "fp32", "max_steps": 1}


def recipe(folder: Path, name: str, base: str, *, level: str = "L2", **keys: Any) -> Path:
    """Writes a recipe over ``base``; ``keys`` are those of train, and ``export``."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    export = keys.pop("export", "stacked")
    extra = keys.pop("extra", {})
    tree = {
        "name": name, "level": level, "base": base,
        "data": {"train": {"path": "rows.jsonl", "format": "classification"}},
        "train": {**TRAIN, **keys}, "serve": {"export": export}, **extra,
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(json.dumps(tree, indent=1), encoding="utf-8")
    return folder / f"{name}.yaml"


@pytest.fixture
def planned(tmp_path: Path, store: Store, model_folder: Path) -> Callable[..., Plan]:
    """The plan of a recipe over a model folder, with some settings."""

    def plan(**keys: Any) -> Plan:
        return make_plan(recipe(tmp_path / "r", "one", str(model_folder), **keys), store)

    return plan


UNSERVABLE: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA": ({"use_dora": True}, "train.use_dora"),
    "embeddings trained whole": ({"modules_to_save": ["embed_tokens"]}, "train.modules_to_save"),
    "low-rank embeddings": ({"target_modules": ["q_proj", "embed_tokens"]}, "train.target_modules"),
}


@pytest.mark.parametrize("name", UNSERVABLE)
@pytest.mark.parametrize("export", ["stacked", ["stacked", "merged"]])
def test_adapter_that_no_engine_loads_is_refused_with_the_remedy(
    name: str, export: Any, planned: Callable[..., Plan]
) -> None:
    keys, place = UNSERVABLE[name]
    with pytest.raises(RecipeError, match=r"serve\.export: merged") as caught:
        planned(**keys, export=export)
    assert re.search(rf"one\.yaml:\d+: {re.escape(place)}: ", str(caught.value))


@pytest.mark.parametrize("keys", [{}, *(keys for keys, _ in UNSERVABLE.values())])
def test_merged_alone_makes_a_new_root(keys: dict[str, Any], planned: Callable[..., Plan]) -> None:
    plan = planned(**keys, export="merged")
    model = plan.outcomes[0].model
    assert (model.root, model.adapter, model.rank) == ("one/merge.sft.seed1", None, 0)
    assert set(plan.nodes[model.root].inputs) == {"root", "own", "data"}
    assert "one/export.sft.seed1" not in plan.nodes


def test_both_exports_of_a_plain_adapter_are_made(planned: Callable[..., Plan]) -> None:
    outcome = planned(export=["stacked", "merged"]).outcomes[0]
    assert outcome.model.adapter == "one/export.sft.seed1"
    assert outcome.merged == "one/merge"


def over(tmp_path: Path, base: Path, first: dict[str, Any], **second: Any) -> Path:
    recipe(tmp_path / "r", "below", str(base), level="L1", **first)
    return recipe(tmp_path / "r", "above", "below.yaml", **second)


def test_rank_over_all_levels_must_fit_the_engine(
    tmp_path: Path, model_folder: Path, store: Store
) -> None:
    fits = over(tmp_path, model_folder, {"lora_r": 256}, lora_r=256)
    assert make_plan(fits, store).outcomes[0].model.rank == 512
    with pytest.raises(RecipeError, match=r"rank 513 .* 256 at most"):
        make_plan(over(tmp_path, model_folder, {"lora_r": 256}, lora_r=257), store)
    merged = over(tmp_path, model_folder, {"lora_r": 256}, lora_r=257, export="merged")
    assert make_plan(merged, store).outcomes[0].model.adapter is None


@pytest.mark.parametrize(("below", "above"), [("qlora", "lora"), ("lora", "qlora")])
def test_levels_share_the_numerics_of_their_base(
    below: str, above: str, tmp_path: Path, model_folder: Path, store: Store
) -> None:
    with pytest.raises(RecipeError, match=rf"set method: {below}, or give below"):
        make_plan(over(tmp_path, model_folder, {"method": below}, method=above), store)
    free = over(tmp_path, model_folder, {"method": below, "export": "merged"}, method=above)
    plan = make_plan(free, store)
    assert plan.outcomes[0].model.root == "below/merge.sft.seed1"
    assert plan.outcomes[0].model.rank == 4


def test_dora_over_a_parent_beside_rounded_weights_is_refused(
    tmp_path: Path, model_folder: Path, store: Store
) -> None:
    dora: dict[str, Any] = {"use_dora": True, "export": "merged"}
    with pytest.raises(RecipeError, match="magnitudes"):
        make_plan(over(tmp_path, model_folder, {}, **dora, precision="bf16"), store)
    plan = make_plan(over(tmp_path, model_folder, {}, **dora), store)
    merge = plan.nodes["above/merge.sft.seed1"]
    assert merge.inputs["parent"] == "below/export.sft.seed1"


@pytest.mark.parametrize(
    ("objective", "method", "why"),
    [("classify", "lora", "set train.objective: [sft, classify], or hybrid"),
     ("hybrid", "full", "a second base; set method: lora"),
     ("hybrid", "lora", None), (["sft", "classify"], "lora", None),
     (["sft", "classify"], "full", "a second base; set method: lora")],
)  # fmt: skip
def test_a_head_is_served_beside_what_writes_or_the_plan_says_why_not(
    objective: Any, method: str, why: str | None, planned: Callable[..., Plan]
) -> None:
    plan = planned(objective=objective, method=method)
    notes = [note for note in plan.notes if "not served" in note]
    assert len(notes) == (why is not None)
    assert all(why in note for note in notes if why)
    bundle = next((n for n in plan.nodes.values() if n.stage == "bundle"), None)
    heads = [] if bundle is None else bundle.config["heads"]
    assert bool(heads) == (why is None)


def test_objective_must_fit_the_base(planned: Callable[..., Plan], model_folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"mlm needs an encoder, and the base is a causal model"):
        planned(objective="mlm")
    config = json.loads((model_folder / "config.json").read_text())
    encoder = {**config, "architectures": ["BertForMaskedLM"], "model_type": "bert"}
    (model_folder / "config.json").write_text(json.dumps(encoder))
    with pytest.raises(RecipeError, match=r"sft needs a causal model"):
        planned()
    assert planned(objective="classify").nodes


@pytest.mark.parametrize("objective", ["classify", "hybrid"])
def test_first_token_of_a_causal_model_is_no_pooling(
    objective: str, planned: Callable[..., Plan]
) -> None:
    with pytest.raises(RecipeError, match=r"one\.yaml:\d+: train\.head\.pooling: cls .* or mean"):
        planned(objective=objective, head={"pooling": "cls"})


def test_first_token_is_pooled_of_encoders_and_a_tag_reads_no_pooling() -> None:
    assert pooling_problem("regress", "cls", causal=True) is not None
    assert pooling_problem("regress", "cls", causal=False) is None
    assert pooling_problem("tag", "cls", causal=True) is None


LAUNCHES: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "qlora, sharded": ({"distributed_type": "FSDP"}, {"method": "qlora"}, r"train\.launch\.config"),
    "8-bit optimiser, sharded": (
        {"distributed_type": "FSDP"}, {"optim": "adamw_8bit"}, r"train\.optim"),
    "qlora, data parallel": ({"distributed_type": "MULTI_CPU"}, {"method": "qlora"}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", LAUNCHES)
def test_cell_of_method_and_wrapper_is_refused_in_the_plan(
    name: str, planned: Callable[..., Plan], tmp_path: Path
) -> None:
    settings, keys, match = LAUNCHES[name]
    file = tmp_path / "launch.yaml"
    file.write_text(json.dumps({"use_cpu": True, "fsdp_config": {"fsdp_version": 2}, **settings}))
    launch = {"num_processes": 2, "config": str(file)}
    if match is None:
        assert planned(**keys, launch=launch).nodes
        return
    with pytest.raises(RecipeError, match=match):
        planned(**keys, launch=launch)


MISSING: dict[str, tuple[dict[str, Any], str, str]] = {
    "tracker": ({"report_to": "wandb"}, "wandb", "pip install wandb"),
    "8-bit optimiser": ({"optim": "adamw_8bit"}, "bitsandbytes", "pip install bitsandbytes"),
    "attention": ({"attention": "flash_attention_2"}, "flash_attn", "pip install flash-attn"),
}


@pytest.mark.parametrize("name", MISSING)
def test_package_that_is_not_installed_blocks_with_the_pip_line(
    name: str, planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, package, remedy = MISSING[name]

    def found(wanted: str) -> Any:
        return None if wanted == package else object()

    monkeypatch.setattr(preflight, "find_spec", found)
    monkeypatch.setattr("pipeline.core.tracking.find_spec", found)
    blocked = planned(**keys).nodes["one/train.sft.seed1"].blocked
    assert blocked is not None
    assert remedy in blocked


def test_deepspeed_that_is_not_installed_blocks(
    planned: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda _name: None)
    file = tmp_path / "launch.yaml"
    file.write_text(json.dumps({"distributed_type": "DEEPSPEED", "use_cpu": True}))
    launch = {"num_processes": 2, "config": str(file)}
    blocked = planned(launch=launch).nodes["one/train.sft.seed1"].blocked
    assert blocked is not None
    assert "pip install deepspeed" in blocked


@pytest.mark.parametrize("gpus", [0, 1])
def test_paged_optimiser_needs_a_gpu_and_an_8_bit_one_does_not(
    gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "gpu_count", lambda: gpus)
    problem = preflight.machine_problem(Train(optim="paged_adamw_8bit"))
    assert (problem is None) == bool(gpus)
    assert problem is None or "use adamw_8bit" in problem
    assert preflight.machine_problem(Train(optim="adamw_8bit")) is None


@pytest.mark.parametrize(
    ("gpus", "config", "refused"),
    [(0, None, False), (1, None, True), (2, None, False), (1, "use_cpu: true", False),
     (0, "distributed_type: MULTI_GPU", True)],
)  # fmt: skip
def test_two_processes_need_two_gpus_where_there_is_one(
    gpus: int, config: str | None, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "gpu_count", lambda: gpus)
    file = tmp_path / "launch.yaml"
    file.write_text(config or "")
    launch = {"num_processes": 2, "config": None if config is None else str(file)}
    problem = preflight.launch_problem(launch)
    assert (problem is not None) == refused
    assert problem is None or f"needs 2 GPUs, and this machine has {gpus}; set" in problem
    assert preflight.launch_problem({"num_processes": 1, "config": None}) is None


@pytest.mark.parametrize("gpus", [0, 1])
def test_flex_attention_needs_a_gpu_for_its_backward_pass(
    gpus: int, planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "gpu_count", lambda: gpus)
    blocked = planned(attention="flex_attention").nodes["one/train.sft.seed1"].blocked
    assert (blocked is None) == bool(gpus)
    assert blocked is None or "use attention: auto" in blocked


def test_untrained_chat_tokens_are_told_by_plan_and_json(
    tmp_path: Path, gradus: Callable[..., Result]
) -> None:
    base = trained(tmp_path / "base", chat=False, tied=True, padding=24)
    path = recipe(tmp_path / "r", "one", str(base))
    shown = gradus("plan", path)
    assert "<|im_end|>" in shown.stderr
    assert "modules_to_save" in shown.stderr
    assert "<|im_end|>" in json.loads(gradus("plan", path, "--json").stdout)["notes"][0]
    full = recipe(tmp_path / "r", "one", str(base), method="full")
    assert json.loads(gradus("plan", full, "--json").stdout)["notes"] == []


def test_own_code_is_part_of_the_key_and_said_in_the_notes(
    planned: Callable[..., Plan], tmp_path: Path, store: Store
) -> None:
    plain, told = planned(), planned(extra={"trust_remote_code": True})
    assert plain.nodes["model/fetch"].key != told.nodes["model/fetch"].key
    assert "trust_remote_code" not in plain.nodes["model/fetch"].config
    assert [note for note in told.notes if "code of its own" in note]
    above = recipe(tmp_path / "r", "two", "one.yaml", extra={"trust_remote_code": True})
    with pytest.raises(RecipeError, match="for the recipe that fetches a base"):
        make_plan(above, store)


def test_training_tells_untrained_chat_tokens_of_a_base_that_was_just_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.core.artifact import Artifact, Manifest
    from pipeline.core.stage import StageContext
    from pipeline.stages import train

    base = trained(tmp_path / "base", chat=False, tied=True, padding=24)
    blank = Manifest("Model", "k", "d", "s", 1, {}, {}, {}, {}, {})
    inputs = {"root": Artifact(base, blank), "data": Artifact(tmp_path, blank)}
    said: list[Any] = []
    context = StageContext(tmp_path, tmp_path / "a/b/c", {"launch": {}}, {}, said.append)
    monkeypatch.setattr(train, "trainer", lambda _job: lambda _job, _progress: {"steps": 0})
    settings = {"objective": "sft", "method": "qlora", "modules_to_save": []}
    assert train.Train().run(inputs, settings, context) == {"steps": 0}
    assert "<|im_end|>" in said[0]["message"]


def test_init_from_takes_what_was_trained_also_of_a_merged_recipe(
    tmp_path: Path, model_folder: Path, store: Store
) -> None:
    dora: dict[str, Any] = {"use_dora": True, "export": "merged"}
    recipe(tmp_path / "r", "first", str(model_folder), **dora)
    second = recipe(tmp_path / "r", "second", str(model_folder), **dora, init_from="first.yaml")
    node = make_plan(second, store).nodes["second/train.sft.seed1"]
    assert node.inputs["init"] == "first/train.sft.seed1"


def test_phases_over_a_merged_recipe_make_new_roots(
    tmp_path: Path, model_folder: Path, store: Store
) -> None:
    phase = {"name": "warm", "data": {"train": {"path": "rows.jsonl", "format": "classification"}},
             "train": {**TRAIN, "use_dora": True}}  # fmt: skip
    path = recipe(
        tmp_path / "r", "one", str(model_folder), use_dora=True, export="merged",
        extra={"phases": [phase]},
    )  # fmt: skip
    plan = make_plan(path, store)
    assert plan.nodes["one/train.sft.seed1"].inputs["root"] == "one.warm/merge.sft.seed1"
