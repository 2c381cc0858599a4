"""Stacked = sequential = merged, against PEFT's own layers as the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import Qwen3Config, Qwen3ForCausalLM

from pipeline.core.errors import ModelError
from pipeline.modeling.adapter_files import factors, read_adapter, write_adapter
from pipeline.modeling.adapters import attach_frozen, merge_into
from pipeline.modeling.stacking import canonical, stack

TOLERANCE = 1e-5
IDS = torch.arange(24).reshape(2, 12)


def tiny() -> Any:
    torch.manual_seed(7)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, intermediate_size=48, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def trained_adapter(folder: Path, seed: int, **settings: Any) -> Path:
    """An adapter whose B is not zero, written by our writer from PEFT's tensors."""
    torch.manual_seed(seed)
    model = get_peft_model(tiny(), LoraConfig(bias="none", **settings))
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.2)
    folder.mkdir()
    config = model.peft_config["default"].to_dict()
    write_adapter(folder, get_peft_model_state_dict(model), config)
    return folder


def sequential(first: Path, second: Path) -> torch.Tensor:
    """Both adapters active at once in plain PEFT: what training over a parent computes."""
    model = PeftModel.from_pretrained(tiny(), str(first), adapter_name="one")
    model.load_adapter(str(second), adapter_name="two")
    model.base_model.set_adapter(["one", "two"])
    return logits(model.eval())


CASES = {
    "other rank, other alpha": (
        {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
        {"r": 4, "lora_alpha": 3, "target_modules": "all-linear"},
    ),
    "rsLoRA over LoRA": (
        {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
        {"r": 9, "lora_alpha": 6, "use_rslora": True, "target_modules": "all-linear"},
    ),
    "rank and alpha patterns": (
        {"r": 4, "lora_alpha": 8, "target_modules": "all-linear",
         "rank_pattern": {"q_proj": 7, r"layers\.1\.mlp\.up_proj": 2},
         "alpha_pattern": {"v_proj": 20}},
        {"r": 3, "lora_alpha": 5, "target_modules": "all-linear", "rank_pattern": {"down_proj": 6}},
    ),
    "different target modules": (
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
        {"r": 5, "lora_alpha": 5, "target_modules": ["v_proj", "gate_proj", "down_proj"]},
    ),
}  # fmt: skip


@pytest.fixture(params=list(CASES))
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    one, two = CASES[request.param]
    return trained_adapter(tmp_path / "one", 1, **one), trained_adapter(tmp_path / "two", 2, **two)


def exported(pair: tuple[Path, Path], out: Path) -> int:
    joined, rank = stack([factors(*read_adapter(folder)) for folder in pair])
    out.mkdir()
    write_adapter(out, *canonical(joined, rank, "CAUSAL_LM"))
    return rank


def test_stacked_equals_sequential_in_plain_peft(pair: tuple[Path, Path], tmp_path: Path) -> None:
    exported(pair, tmp_path / "stacked")
    expected = sequential(*pair)
    assert (expected - logits(tiny())).abs().max() > 0.01
    found = logits(PeftModel.from_pretrained(tiny(), str(tmp_path / "stacked")).eval())
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_merged_equals_sequential(pair: tuple[Path, Path], tmp_path: Path) -> None:
    exported(pair, tmp_path / "stacked")
    model = tiny()
    merge_into(model, tmp_path / "stacked")
    torch.testing.assert_close(logits(model), sequential(*pair), rtol=0, atol=TOLERANCE)


def test_uniform_rank_is_the_sum_where_ranks_are_uniform(tmp_path: Path) -> None:
    one = trained_adapter(tmp_path / "a", 1, r=8, lora_alpha=16, target_modules="all-linear")
    two = trained_adapter(tmp_path / "b", 2, r=4, lora_alpha=3, target_modules="all-linear")
    assert exported((one, two), tmp_path / "stacked") == 12
    tensors, config = read_adapter(tmp_path / "stacked")
    assert config["r"] == config["lora_alpha"] == 12
    ranks = {t.shape[0] for n, t in tensors.items() if ".lora_A." in n}
    assert ranks == {12}


def test_three_levels_stack(tmp_path: Path) -> None:
    parts = [
        trained_adapter(tmp_path / str(i), i, r=2 + i, lora_alpha=4, target_modules="all-linear")
        for i in (1, 2, 3)
    ]
    first, _ = stack([factors(*read_adapter(p)) for p in parts[:2]])
    joined, rank = stack([first, factors(*read_adapter(parts[2]))])
    assert rank == 3 + 4 + 5
    model = tiny()
    for part in parts:
        merge_into(model, part)
    (tmp_path / "stacked").mkdir()
    write_adapter(tmp_path / "stacked", *canonical(joined, rank, None))
    found = logits(PeftModel.from_pretrained(tiny(), str(tmp_path / "stacked")).eval())
    torch.testing.assert_close(found, logits(model), rtol=0, atol=TOLERANCE)


def test_frozen_parent_beside_the_base_equals_merged_parent(tmp_path: Path) -> None:
    parent = trained_adapter(tmp_path / "p", 3, r=4, lora_alpha=4, target_modules="all-linear")
    joined, rank = stack([factors(*read_adapter(parent))])
    (tmp_path / "canonical").mkdir()
    write_adapter(tmp_path / "canonical", *canonical(joined, rank, None))
    merged = tiny()
    merge_into(merged, tmp_path / "canonical")
    beside = attach_frozen(tiny(), tmp_path / "canonical").eval()
    torch.testing.assert_close(logits(beside), logits(merged), rtol=0, atol=TOLERANCE)
    assert not any(p.requires_grad for p in beside.parameters())


def test_same_tensors_same_bytes(tmp_path: Path) -> None:
    one = trained_adapter(tmp_path / "a", 1, r=4, lora_alpha=4, target_modules="all-linear")
    two = trained_adapter(tmp_path / "b", 1, r=4, lora_alpha=4, target_modules="all-linear")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_dora_is_refused() -> None:
    with pytest.raises(ModelError, match="DoRA"):
        factors({}, {"r": 4, "lora_alpha": 4, "use_dora": True})


def test_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    adapter = trained_adapter(tmp_path / "a", 1, r=4, lora_alpha=4, target_modules="all-linear")
    other = Qwen3ForCausalLM(
        Qwen3Config(vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                    num_key_value_heads=1, head_dim=8, intermediate_size=48)
    )  # fmt: skip
    with pytest.raises(ModelError, match="another model"):
        merge_into(other, adapter)


def test_merge_refuses_rounded_weights(tmp_path: Path) -> None:
    adapter = trained_adapter(tmp_path / "a", 1, r=4, lora_alpha=4, target_modules="all-linear")
    with pytest.raises(ModelError, match="float32"):
        merge_into(tiny().to(torch.bfloat16), adapter)
