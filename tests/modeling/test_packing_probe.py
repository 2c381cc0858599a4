"""The probe tells models that keep packed rows apart from those that leak."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_flash_attention_utils import prepare_fa_kwargs_from_position_ids

from pipeline.modeling import segment_attention
from pipeline.modeling.packing_probe import (
    BACKENDS,
    EXECUTED,
    _own_rounding,
    _probed,
    packed_inputs,
    probe,
    segment_positions,
)

SHAPE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 48}  # fmt: skip
GROUPED = {**SHAPE, "num_key_value_heads": 1, "head_dim": 16}
LAYERS = {"bos_token_id": 1, "eos_token_id": 2}
SOUND: dict[str, Any] = {
    "Qwen3Config": GROUPED,
    "LlamaConfig": GROUPED,
    "GPT2Config": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, **LAYERS},
    "MistralConfig": {**GROUPED, "sliding_window": 4},
    "Gemma2Config": {**GROUPED, "sliding_window": 4},
    "Gemma3TextConfig": {**GROUPED, "sliding_window": 4},
    "Qwen3MoeConfig": {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2,
                       "moe_intermediate_size": 16},
}  # fmt: skip
LEAKING: dict[str, Any] = {
    # Recurrent states.
    "Mamba2Config": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 4,
                     "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "Qwen3NextConfig": {**GROUPED, "num_experts": 2, "num_experts_per_tok": 1,
                        "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
                        "linear_num_key_heads": 2, "linear_num_value_heads": 2,
                        "linear_key_head_dim": 8, "linear_value_head_dim": 8,
                        "layer_types": ["linear_attention", "full_attention"]},
    "Zamba2Config": {**SHAPE, "mamba_d_state": 8, "mamba_headdim": 16, "n_mamba_heads": 4,
                     "layers_block_type": ["mamba", "hybrid"], "chunk_size": 8,
                     "num_mem_blocks": 1},
    # A convolution alone.
    "Lfm2Config": {**SHAPE, "num_key_value_heads": 1, "layer_types": ["conv", "full_attention"]},
    # Attention whose mask is made without the positions.
    "GptOssConfig": {**GROUPED, "num_local_experts": 2, "num_experts_per_tok": 1},
    "OPTConfig": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2,
                  "num_attention_heads": 2, "ffn_dim": 48, "word_embed_proj_dim": 32,
                  "max_position_embeddings": 64},
}  # fmt: skip


def tiny(name: str, settings: dict[str, Any], attention: str = "eager") -> Any:
    torch.manual_seed(0)
    segment_attention.offer()
    config = getattr(transformers, name)(**settings)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)


@pytest.mark.parametrize("attention", [n for n, how in BACKENDS.items() if how == EXECUTED])
@pytest.mark.parametrize("name", SOUND)
def test_sound_attention_passes(name: str, attention: str) -> None:
    model = tiny(name, SOUND[name], attention)
    if attention == segment_attention.NAME and not segment_attention.suits(model.config.to_dict()):
        pytest.skip("not chosen for this model: tests/modeling/test_segment_attention.py")
    found = probe(model, 0)
    assert found.ok, found.reason
    assert found.largest_difference < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LEAKING)
def test_leaking_layers_fail(name: str, dtype: torch.dtype) -> None:
    found = probe(tiny(name, LEAKING[name]).to(dtype), 0)
    assert not found.ok
    assert "neighbours" in found.reason


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bf16_weights_pass_within_their_rounding(attention: str) -> None:
    model = tiny("Qwen3Config", GROUPED, attention)
    found = probe(model.to(torch.bfloat16), 0)
    assert found.ok, found.reason
    assert "bf16 or quantised weights" in found.reason


def test_weights_that_are_no_numbers_fail() -> None:
    model = tiny("Qwen3Config", GROUPED)
    with torch.no_grad():
        model.get_input_embeddings().weight[5:60] = float("nan")
    assert not probe(model, 0).ok


def test_model_that_takes_no_positions_is_told() -> None:
    class Deaf(torch.nn.Module):
        config = transformers.Qwen3Config(attn_implementation="eager")

        def get_input_embeddings(self) -> torch.nn.Embedding:
            return torch.nn.Embedding(8, 2)

        def forward(self, input_ids: torch.Tensor) -> None: ...

    found = probe(Deaf(), 0)
    assert not found.ok
    assert "packed rows are refused" in found.reason


def test_attention_that_is_not_offered_is_told() -> None:
    model = tiny("Qwen3Config", GROUPED)
    model.config._attn_implementation = "paged|eager"
    assert "paged|eager is not offered" in probe(model, 0).reason


def test_blocks_beyond_an_attention_chunk_fail() -> None:
    settings = {**GROUPED, "num_local_experts": 2, "intermediate_size_mlp": 48,
                "attention_chunk_size": 64}  # fmt: skip
    model = tiny("Llama4TextConfig", settings)
    assert probe(model, 0, longest=64).ok
    assert "chunks of 64" in probe(model, 0, longest=65).reason


def test_probe_leaves_mode_weights_and_generator() -> None:
    model = tiny("Qwen3Config", GROUPED).train()
    state = torch.get_rng_state()
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    probe(model, 0)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weights[n], t) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([3, 1, 2], [0, 1, 2, 0, 0, 1, 0, 1]),
        ([8], [0, 1, 2, 3, 4, 5, 6, 7]),
        ([5], [0, 1, 2, 3, 4, 0, 1, 2]),
    ],
)
def test_positions_restart_in_each_segment(lengths: list[int], expected: list[int]) -> None:
    assert segment_positions(lengths, 8).tolist() == expected


def test_flash_attention_is_given_one_row_that_means_the_same() -> None:
    """The layout only: its kernel needs a GPU. Eager attention reads the same positions."""
    model = tiny("Qwen3Config", GROUPED).eval()
    ids = torch.arange(24).reshape(2, 12)
    positions = torch.stack([segment_positions(n, 12) for n in ([5, 4], [7, 5])])
    rows = packed_inputs(model, ids, positions)
    assert rows["input_ids"].shape == (2, 12)
    model.config._attn_implementation = "flash_attention_2"
    flat = packed_inputs(model, ids, positions)
    model.config._attn_implementation = "eager"
    assert flat["position_ids"].shape == flat["input_ids"].shape == (1, 24)
    (borders, _), _ = prepare_fa_kwargs_from_position_ids(flat["position_ids"])
    assert borders.tolist() == [0, 5, 9, 12, 19, 24]
    with torch.no_grad():
        torch.testing.assert_close(
            model(**flat).logits.reshape(2, 12, -1), model(**rows).logits, rtol=0, atol=1e-5
        )


class LengthScaled(torch.nn.Module):
    """A sound model whose logits grow with the log of the block's length, as log-n scaling does."""

    def __init__(self, inner: Any, share: float) -> None:
        super().__init__()
        self.inner, self.share, self.config = inner, share, inner.config

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, **inputs: Any) -> Any:
        made = self.inner(**inputs)
        length = torch.tensor(float(inputs["input_ids"].numel()))
        made.logits = made.logits * (1 + self.share * length.log())
        return made


@pytest.mark.parametrize("share", [1e-3, 0.03])
def test_what_depends_on_the_blocks_length_fails(share: float) -> None:
    model = tiny("Qwen3Config", GROUPED, segment_attention.NAME)
    assert not _probed(LengthScaled(model, share), 0, 0).ok


@pytest.mark.parametrize(("noise", "allowed"), [(0.0, 0.0), (3e-4, 1.2e-3), (1e-2, 4e-2)])
def test_a_models_own_rounding_is_what_padding_behind_a_row_changes(
    noise: float, allowed: float
) -> None:
    rows = [torch.arange(1, 6), torch.arange(1, 9)]

    class Padded(torch.nn.Module):
        def get_input_embeddings(self) -> torch.nn.Embedding:
            return torch.nn.Embedding(8, 2)

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
            wide = input_ids.shape[1]
            off = noise * (1 if wide == 16 else 3) * (wide > 8)
            return SimpleNamespace(logits=input_ids[..., None].float() + off)

    alone = [row[:, None].float() for row in rows]
    assert _own_rounding(Padded(), rows, alone, 0) == pytest.approx(allowed, abs=1e-5)
