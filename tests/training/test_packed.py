"""Packed rows train what single rows train; weights count what they say."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from pipeline.core.errors import DataError
from pipeline.data.arrow import Split, read_rows, write_split
from pipeline.data.packing import pack_stream
from pipeline.modeling import segment_attention
from pipeline.modeling.packing_probe import BACKENDS, EXECUTED, ProbeResult, packed_inputs
from pipeline.training.batches import collate, row_weights, shares
from pipeline.training.loop import Training, train
from pipeline.training.modules import class_weights
from pipeline.training.objectives import LabelModel, TokenModel
from pipeline.training.packed import Unpacked, is_packed
from pipeline.training.parallel import Single
from pipeline.training.targets import target_count
from tests.training.training_case import broken_at, job, losses, quiet

SHAPE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 48}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "Qwen3Config": SHAPE,
    "LlamaConfig": SHAPE,
    "GPT2Config": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1,
                   "eos_token_id": 2, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "MistralConfig": {**SHAPE, "sliding_window": 4},
    # Soft-capped logits and sliding layers between full ones.
    "Gemma2Config": {**SHAPE, "sliding_window": 4},
    "Gemma3TextConfig": {**SHAPE, "sliding_window": 4},
}  # fmt: skip
OFFERED = [name for name, how in BACKENDS.items() if how == EXECUTED]
PAIRS = [
    (name, kernel) for name in MODELS for kernel in OFFERED
    # Its soft-capped attention is not what our own kernel does; the probe gives it its masks.
    if (name, kernel) != ("Gemma2Config", segment_attention.NAME)
]  # fmt: skip
LENGTHS = (9, 5, 12, 3, 7, 2, 10)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small only wait for the other threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def model_of(name: str, attention: str, *, lora: bool = False) -> Any:
    torch.manual_seed(0)
    segment_attention.offer()
    config = getattr(transformers, name)(**MODELS[name])
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    if not lora:
        return model
    # GPT-2's linear layers keep their weights transposed.
    config = LoraConfig(r=4, target_modules="all-linear", fan_in_fan_out=name == "GPT2Config")
    body = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in body.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    return body


def single_rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {"example_id": f"r{i}", "text": "", "label": None,
         "input_ids": torch.randint(3, 64, (n,), generator=generator).tolist(),
         # The first token is marked too: it must not be learned from a neighbour's last.
         "supervised": [1, *(int(k % 3 != 1) for k in range(n - 2)), 1]}
        for i, n in enumerate(LENGTHS)
    ]  # fmt: skip


def packed_rows() -> list[dict[str, Any]]:
    return list(pack_stream(single_rows(), 20))


def gradients(
    body: Any, rows: list[dict[str, Any]], micro: int, weighting: str
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one update as the loop makes it."""
    batch = collate(rows, 0)
    if weighting == "row":
        batch["weights"] = row_weights(batch)
    module = TokenModel(body)
    count, summed = target_count(module, batch), 0.0
    module.zero_grad()
    for part in shares(range(len(rows)), 0, 1, micro):
        loss, _ = module({name: tensor[part] for name, tensor in batch.items()})
        (loss / count).backward()
        summed += float(loss.detach())
    found = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    return summed / count, found


def own_loss(body: Any, row: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """Oracle: transformers' own mean loss of one row, and over how many targets."""
    ids = torch.tensor([row["input_ids"]])
    labels = ids.masked_fill(torch.tensor([row["supervised"]]) == 0, -100)
    return body(input_ids=ids, labels=labels).loss, int((labels[:, 1:] != -100).sum())


@pytest.mark.parametrize(("name", "attention"), PAIRS)
def test_logits_of_packed_rows_are_those_of_single_rows(name: str, attention: str) -> None:
    model = model_of(name, attention).eval()
    alone = {row["example_id"]: torch.tensor([row["input_ids"]]) for row in single_rows()}
    blocks = packed_rows()
    batch = collate(blocks, 0)
    with torch.no_grad():
        logits = model(**packed_inputs(model, batch["input_ids"], batch["position_ids"])).logits
        logits = logits.reshape(*batch["input_ids"].shape, -1)
        leaked = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        for index, block in enumerate(blocks):
            start = 0
            for name_of, length in zip(block["members"], block["lengths"], strict=True):
                part = slice(start, start + length)
                expected = model(alone[name_of]).logits[0]
                torch.testing.assert_close(logits[index, part], expected, rtol=0, atol=1e-5)
                # The claim can fail: without positions, neighbours are seen.
                assert not start or (leaked[index, part] - expected).abs().max() > 1e-3
                start += length


@pytest.mark.parametrize("case", ["full, token", "LoRA, token", "LoRA, row"])
@pytest.mark.parametrize(("name", "attention"), PAIRS)
def test_loss_and_gradients_of_every_layout_are_those_of_single_rows(
    name: str, attention: str, case: str
) -> None:
    weighting = case.split()[1]
    body = model_of(name, attention, lora=case.startswith("LoRA")).train()
    found = [
        gradients(body, rows, micro, weighting)
        for rows, micro in ((packed_rows(), 3), (packed_rows(), 1), (single_rows(), 4))
    ]
    body.zero_grad()
    singly = [own_loss(body, row) for row in single_rows()]
    if weighting == "row":
        singly = [(mean, 1) for mean, _ in singly]
    expected = torch.stack([mean * n for mean, n in singly]).sum() / sum(n for _, n in singly)
    expected.backward()
    own = {n: p.grad for n, p in TokenModel(body).named_parameters() if p.requires_grad}
    for loss, grads in found:
        assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
        assert grads.keys() == own.keys()
        for parameter, grad in grads.items():
            torch.testing.assert_close(grad, own[parameter], rtol=0, atol=1e-5)


def test_first_token_of_a_segment_is_no_target() -> None:
    batch = collate(packed_rows(), 0)
    singles = collate(single_rows(), 0)
    assert not batch["supervised"][batch["position_ids"] == 0].any()
    assert batch["supervised"].sum() == singles["supervised"][:, 1:].sum()


def test_rows_that_share_no_block_keep_their_mask() -> None:
    assert "position_ids" not in collate(single_rows(), 0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4))
def test_row_weights_sum_to_the_number_of_segments(blocks: list[list[int]]) -> None:
    rows = [
        {"input_ids": [1] * sum(lengths), "supervised": [1] * sum(lengths), "lengths": lengths}
        for lengths in blocks
    ]
    batch = collate(rows, 0)
    with_targets = sum(length > 1 for lengths in blocks for length in lengths)
    assert float(row_weights(batch).sum()) == pytest.approx(with_targets)


def write_folder(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    for name in ("train", "validation"):
        write_split(folder / f"{name}.arrow", rows)
    (folder / "labels.json").write_text("[]")
    return folder


@pytest.fixture
def folders(data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The same rows packed, and one by one in the order in which they stand in the blocks."""
    rows = {row["example_id"]: row for row in read_rows(data / "train.arrow")}
    blocks = list(pack_stream(rows.values(), 48))
    single = [{**rows[name], "text": "", "label": None} for b in blocks for name in b["members"]]
    return write_folder(tmp_path / "packed", blocks), write_folder(tmp_path / "single", single)


def test_unpacked_rows_are_the_rows_that_were_packed(folders: tuple[Path, Path]) -> None:
    packed, single = (Split(folder / "train.arrow") for folder in folders)
    assert is_packed(packed)
    assert not is_packed(single)
    unpacked = Unpacked(packed)
    assert [unpacked[i] for i in range(len(unpacked))] == list(single)
    assert unpacked.lengths().tolist() == single.lengths().tolist()


@pytest.mark.parametrize("weighting", ["token", "row"])
def test_training_on_packed_rows_is_training_on_rows(
    weighting: str, root: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """One batch holds all rows, so that blocks and rows make the same updates."""
    done, facts = [], []
    for name, folder in zip(("packed", "single"), folders, strict=True):
        done.append(job(root, folder, tmp_path / f"{name}-job", global_batch_size=64,
                        eval_steps=3, loss_weighting=weighting))  # fmt: skip
        facts.append(train(done[-1], quiet))
    assert facts[0]["packing"].startswith("on, largest difference ")
    assert facts[1]["packing"] is None
    assert losses(done[0]) == pytest.approx(losses(done[1]), abs=1e-5)
    histories = [
        [json.loads(line).get("validation_loss") for line in
         (Path(d.out) / "history.jsonl").read_text().splitlines()] for d in done
    ]  # fmt: skip
    found = [[v for v in history if v is not None] for history in histories]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert len(found[0]) == 2


def test_packed_training_resumed_equals_undisturbed_to_the_byte(
    root: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    settings_of: dict[str, Any] = {"lora_dropout": 0.2, "save_steps": 1, "global_batch_size": 2}
    straight = job(root, folders[0], tmp_path / "a", **settings_of)
    train(straight, quiet)
    broken = job(root, folders[0], tmp_path / "b", **settings_of)
    broken_at(broken, 4)
    assert train(broken, quiet)["resumed_from"] == 3
    for name in ("adapter_model.safetensors", "history.jsonl"):
        assert (Path(broken.out) / name).read_bytes() == (Path(straight.out) / name).read_bytes()


@pytest.fixture
def leaking_root(root: Path, tmp_path: Path) -> Path:
    """A model whose convolution sees across the borders."""
    folder = tmp_path / "leaking"
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(root))
    shape = {n: v for n, v in SHAPE.items() if n not in {"head_dim", "vocab_size"}}
    torch.manual_seed(0)
    model = transformers.Lfm2ForCausalLM(
        transformers.Lfm2Config(**shape, vocab_size=len(tokenizer), pad_token_id=0,
                                layer_types=["conv", "full_attention"])
    )  # fmt: skip
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def test_leaking_model_is_trained_row_by_row_and_says_so(
    leaking_root: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    told: list[str] = []
    done = job(leaking_root, folders[0], tmp_path)
    facts = train(done, lambda event: told.append(str(event.get("message", ""))))
    assert facts["packing"].startswith("off: ")
    assert any("packing is off, rows are trained singly" in text for text in told)
    assert facts["rows"] == len(Split(folders[1] / "train.arrow"))


def test_unpacked_blocks_make_the_updates_of_packed_ones(
    root: Path, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update learns from the same tokens, so where packing is off changes no result."""
    settings_of: dict[str, Any] = {"global_batch_size": 2, "max_steps": None,
                                   "num_train_epochs": 2}  # fmt: skip
    packed = job(root, folders[0], tmp_path / "packed", **settings_of)
    first = train(packed, quiet)
    refused = ProbeResult(False, 1.0, "refused by a test")
    monkeypatch.setattr("pipeline.training.loop.probe", lambda *_: refused)
    apart = job(root, folders[0], tmp_path / "apart", **settings_of)
    second = train(apart, quiet)
    assert second["packing"] == "off: refused by a test"
    assert second["updates"] == first["updates"]
    assert losses(apart) == pytest.approx(losses(packed), abs=1e-5)


def test_processes_that_disagree_all_unpack(
    root: Path, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Single, "total", lambda _self, summed: summed.add_(1.0))
    training = Training(job(root, folders[0], tmp_path / "job"), quiet)
    assert training.packing == "off: it leaks on another process"
    assert len(training.rows) == len(Split(folders[1] / "train.arrow"))


class _Logits(torch.nn.Module):
    """A classifier that is a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(9, 3, generator=torch.manual_seed(0)))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.table[input_ids[:, 0]]


def test_class_weights_are_those_of_torch() -> None:
    """Oracle: torch's weighted mean."""
    weight, labels = torch.tensor([0.5, 2.0, 7.0]), torch.tensor([0, 2, 1, 1, 0, 0, 0, 2, 0])
    classifier = _Logits()
    expected = torch.nn.functional.cross_entropy(
        classifier.table, labels, weight=weight, reduction="mean"
    )
    expected.backward()
    own = copy.deepcopy(classifier.table.grad)
    classifier.table.grad = None
    batch = {"input_ids": torch.arange(9)[:, None], "attention_mask": torch.ones(9, 1),
             "labels": labels, "row_weights": weight[labels]}  # fmt: skip
    module = LabelModel(classifier)
    total, count = 0.0, target_count(module, batch)
    for part in shares(range(9), 0, 1, 2):
        loss, _ = module({name: t[part] for name, t in batch.items()})
        (loss / count).backward()
        total += float(loss.detach())
    assert total / count == pytest.approx(float(expected.detach()), abs=1e-6)
    torch.testing.assert_close(classifier.table.grad, own, rtol=0, atol=1e-6)


def test_class_weights_of_the_dataset_reach_the_loss(
    root: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train.arrow", "validation.arrow", "labels.json"):
        (folder / name).write_bytes((data / name).read_bytes())
    plain = job(root, folder, tmp_path / "plain", "classify", global_batch_size=18, max_steps=1)
    train(plain, quiet)
    (folder / "class_weights.json").write_text('{"blue": 5, "grey": 1, "red": 0.1}')
    weighted = job(root, folder, tmp_path / "w", "classify", global_batch_size=18, max_steps=1)
    training = Training(weighted, quiet)
    rows = [training.rows[i] for i in training.order.at(0)]
    batch = collate(rows, 0)
    names = training.trainee.labels
    with torch.no_grad():
        logits = training.trainee.module.classifier(  # type: ignore[operator]
            batch["input_ids"], batch["attention_mask"]
        )
    labels = torch.tensor([names.index(row["label"]) for row in rows])
    expected = torch.nn.functional.cross_entropy(
        logits, labels, weight=torch.tensor([5.0, 1.0, 0.1])
    )
    training.run()
    assert losses(weighted)[0] == pytest.approx(float(expected), abs=1e-5)
    assert losses(weighted)[0] != pytest.approx(losses(plain)[0], abs=1e-3)


@pytest.mark.parametrize("tree", ['{"a": 1}', '{"a": 1, "b": 0}', '{"a": 1, "b": "x"}'])
def test_class_without_a_positive_weight_is_named(tree: str, tmp_path: Path) -> None:
    (tmp_path / "class_weights.json").write_text(tree)
    with pytest.raises(DataError, match="the weight of 'b'"):
        class_weights(tmp_path, ["a", "b"])
