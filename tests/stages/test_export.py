"""What is exported answers as what was trained, with PEFT's own layers and merge as oracles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pipeline.core.errors import IntegrityError, ModelError
from pipeline.modeling import adapter_files
from pipeline.stages import export, golden
from pipeline.stages.export import Export, Merge
from tests.stages.export_case import adapter, base, dataset, made

IDS = torch.arange(12).reshape(1, 12)
UNSTACKABLE: dict[str, dict[str, Any]] = {
    "DoRA": {"use_dora": True},
    "tied embeddings": {"modules_to_save": ["embed_tokens"]},
    "vocabulary head alone, of a tied base": {"modules_to_save": ["lm_head"]},
    "norm and rsLoRA": {"modules_to_save": ["norm"], "use_rslora": True},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("rows") / "data")


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(IDS).logits


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)


def levels(root: Path, data: Path, tmp_path: Path, **keys: Any) -> dict[str, Path]:
    """An exported L1, and an L2's adapter that was trained over it."""
    first = {"root": root, "data": data, "own": adapter(tmp_path / "one", root, 1)}
    made(Export(), tmp_path / "parent", **first)
    own = adapter(tmp_path / "two", root, 2, tmp_path / "parent", **keys)
    return {"root": root, "data": data, "parent": tmp_path / "parent", "own": own}


def test_stacked_export_is_checked_and_says_how_far_it_is(
    root: Path, data: Path, tmp_path: Path
) -> None:
    inputs = levels(root, data, tmp_path, use_rslora=True, rank_pattern={"q_proj": 2})
    facts = made(Export(), tmp_path / "out", **inputs)
    golden = facts["golden"]
    assert golden["rows"] == 4
    assert 0 < max(golden["largest_difference"].values()) < 1e-5
    assert golden["loss"]["trained"] == pytest.approx(golden["loss"]["exported"], abs=1e-5)
    body = PeftModel.from_pretrained(plain(root), str(inputs["parent"]), adapter_name="one")
    body.load_adapter(str(inputs["own"]), adapter_name="two")
    body.base_model.set_adapter(["one", "two"])
    found = PeftModel.from_pretrained(plain(root), str(tmp_path / "out"))
    torch.testing.assert_close(logits(found), logits(body), rtol=0, atol=1e-4)


def test_golden_loss_is_that_of_transformers(root: Path, data: Path, tmp_path: Path) -> None:
    own = adapter(tmp_path / "own", root, 1)
    facts = made(Export(), tmp_path / "out", root=root, data=data, own=own)
    body = PeftModel.from_pretrained(plain(root), str(own)).eval()
    from pipeline.data.arrow import read_rows

    summed, count = 0.0, 0
    for row in read_rows(data / "train.arrow"):
        ids = torch.tensor([[int(i) for i in row["input_ids"]]])
        learned = torch.tensor([[int(s) for s in row["supervised"]]]).bool()
        labels = ids.masked_fill(~learned, -100)
        with torch.no_grad():
            summed += float(body(input_ids=ids, labels=labels).loss) * int(learned[:, 1:].sum())
        count += int(learned[:, 1:].sum())
    assert facts["golden"]["loss"]["trained"] == pytest.approx(summed / count, abs=1e-5)


def test_a_scale_that_is_lost_is_no_artifact(
    root: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = adapter(tmp_path / "own", root, 1)

    def unscaled(tensors: Any, config: Any) -> Any:
        return {m: (a, b / 2) for m, (a, b) in adapter_files.factors(tensors, config).items()}

    monkeypatch.setattr(export, "factors", unscaled)
    with pytest.raises(IntegrityError, match=r"export: the stacked adapter: its .* differ"):
        made(Export(), tmp_path / "out", root=root, data=data, own=own)


def test_a_small_update_that_is_lost_is_no_artifact(
    root: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies far below the tolerance of a whole model, and is all that was trained."""
    own = adapter(tmp_path / "own", root, 1)
    tensors = load_file(str(own / "adapter_model.safetensors"))
    small = {n: t * (3e-4 if ".lora_B." in n else 1.0) for n, t in tensors.items()}
    save_file(small, str(own / "adapter_model.safetensors"))

    def lost(tensors: Any, config: Any) -> Any:
        return {m: (a, b * 0) for m, (a, b) in adapter_files.factors(tensors, config).items()}

    made(Export(), tmp_path / "whole", root=root, data=data, own=own)
    monkeypatch.setattr(export, "factors", lost)
    with pytest.raises(IntegrityError, match=r"export: the stacked adapter: its .* differ"):
        made(Export(), tmp_path / "out", root=root, data=data, own=own)


def test_a_value_that_is_no_number_is_no_artifact() -> None:
    """In the second row: a maximum that forgets it would pass."""
    good = golden.Answers({"states": [torch.ones(1, 3, 2), torch.ones(1, 4, 2)]})
    spoilt = golden.Answers({"states": [torch.ones(1, 3, 2), torch.full((1, 4, 2), torch.nan)]})
    golden.compared(good, good, golden.Answers(), "it")
    for trained, exported in ((good, spoilt), (spoilt, good)):
        with pytest.raises(IntegrityError, match="export: it: its states differ"):
            golden.compared(trained, exported, golden.Answers(), "it")


def test_head_is_compared_too(root: Path, data: Path, tmp_path: Path) -> None:
    own = adapter(tmp_path / "own", root, 1, head=True)
    facts = made(Export(), tmp_path / "out", root=root, data=data, own=own)
    assert "head" in facts["golden"]["largest_difference"]
    assert (tmp_path / "out/head.safetensors").read_bytes() == (
        own / "head.safetensors"
    ).read_bytes()


def test_a_changed_head_is_no_artifact(
    root: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = adapter(tmp_path / "own", root, 1, head=True)
    copy = export._copy_head

    def spoilt(source: Path, out: Path) -> None:
        copy(source, out)
        weight = load_file(str(out / "head.safetensors"))["score.weight"]
        save_file({"score.weight": weight.flip(0).contiguous()}, str(out / "head.safetensors"))

    monkeypatch.setattr(export, "_copy_head", spoilt)
    with pytest.raises(IntegrityError, match="its head differ"):
        made(Export(), tmp_path / "out", root=root, data=data, own=own)


def test_encoder_export_is_checked(data: Path, tmp_path: Path) -> None:
    root = base(tmp_path / "encoder", encoder=True)
    own = adapter(tmp_path / "own", root, 1, head=True, encoder=True)
    facts = made(Export(), tmp_path / "out", root=root, data=data, own=own)
    assert set(facts["golden"]["largest_difference"]) == {"states", "logits", "head"}
    assert facts["golden"]["loss"]["trained"] is None
    merged = made(
        Merge(), tmp_path / "merged", root=root, data=data, own=own, adapter=tmp_path / "out"
    )
    assert max(merged["golden"]["largest_difference"].values()) < 1e-5


def test_merged_export_of_a_stack_equals_peft(root: Path, data: Path, tmp_path: Path) -> None:
    inputs = levels(root, data, tmp_path)
    made(Export(), tmp_path / "stacked", **inputs)
    facts = made(Merge(), tmp_path / "out", **inputs, adapter=tmp_path / "stacked")
    assert facts["dtype"] == "float32"
    oracle = PeftModel.from_pretrained(plain(root), str(tmp_path / "stacked")).merge_and_unload()
    torch.testing.assert_close(logits(plain(tmp_path / "out")), logits(oracle), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", UNSTACKABLE)
def test_what_cannot_be_stacked_is_merged_as_peft_merges(
    name: str, root: Path, data: Path, tmp_path: Path
) -> None:
    own = adapter(tmp_path / "own", root, 1, **UNSTACKABLE[name])
    with pytest.raises(ModelError, match="cannot be stacked"):
        made(Export(), tmp_path / "stacked", root=root, data=data, own=own)
    facts = made(Merge(), tmp_path / "out", root=root, data=data, own=own)
    assert max(facts["golden"]["largest_difference"].values()) < 1e-5
    expected = logits(PeftModel.from_pretrained(plain(root), str(own)))
    assert (expected - logits(plain(root))).abs().max() > 1e-2
    torch.testing.assert_close(logits(plain(tmp_path / "out")), expected, rtol=0, atol=1e-4)


def test_dora_over_a_parent_is_merged_over_the_merged_parent(
    root: Path, data: Path, tmp_path: Path
) -> None:
    one = adapter(tmp_path / "one", root, 1)
    made(Export(), tmp_path / "parent", root=root, data=data, own=one)
    made(Merge(), tmp_path / "below", root=root, data=data, own=one, adapter=tmp_path / "parent")
    own = adapter(tmp_path / "own", tmp_path / "below", 2, use_dora=True)
    made(Merge(), tmp_path / "out", root=root, data=data, own=own, parent=tmp_path / "parent")
    expected = logits(PeftModel.from_pretrained(plain(tmp_path / "below"), str(own)))
    torch.testing.assert_close(logits(plain(tmp_path / "out")), expected, rtol=0, atol=1e-4)


def test_qlora_export_tells_how_far_the_served_model_is(
    root: Path, data: Path, tmp_path: Path
) -> None:
    own = adapter(tmp_path / "own", root, 1)
    config = {"method": "qlora", "precision": "fp32"}
    facts = made(Export(), tmp_path / "out", config, root=root, data=data, own=own)
    numerics = facts["numerics"]
    assert (numerics["trained"], numerics["served"]) == ("nf4", "full precision")
    losses = numerics["golden_loss"]
    assert losses["served"] == facts["golden"]["loss"]["exported"]
    assert losses["trained"] != losses["served"]
    # Rounding to 4 bits moves states by some percent, and an adapter that is lost by far more.
    assert 0.001 < numerics["states_apart"] < 0.5
    weights = load_file(str(tmp_path / "out/adapter_model.safetensors"))
    assert {t.dtype for t in weights.values()} == {torch.float32}


def test_validation_does_not_change_4_bit_weights(root: Path) -> None:
    from pipeline.modeling.loading import load_model

    model = load_model(root, quantisation="nf4")
    with torch.no_grad():
        before = model.train()(IDS).logits
        model.eval()(IDS)
        after = model.train()(IDS).logits
    torch.testing.assert_close(after, before, rtol=0, atol=0)
