"""Segments attended to alone: the same numbers as transformers' masks, rows and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional

from pipeline.modeling import segment_attention
from pipeline.modeling.packing_probe import packed_inputs, probe, segment_positions
from tests.modeling.test_packing_probe import GROUPED, LEAKING, SOUND

LENGTHS = (9, 4, 7)


def model_with(attention: str, name: str = "Qwen3Config", **changed: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, name)(**{**SOUND[name], **changed})
    segment_attention.offer()
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def loss_of(model: Any) -> torch.Tensor:
    width = sum(LENGTHS) + 4
    ids = torch.randint(64, (2, width), generator=torch.Generator().manual_seed(1))
    positions = torch.stack([segment_positions(LENGTHS, width)] * 2)
    logits = model(**packed_inputs(model, ids, positions)).logits.reshape(2, width, -1)
    kept = logits[:, : sum(LENGTHS)]
    return functional.cross_entropy(kept.flatten(0, 1), ids[:, : sum(LENGTHS)].flatten())


@pytest.mark.parametrize(
    "name", ["Qwen3Config", "LlamaConfig", "MistralConfig", "Gemma3TextConfig"]
)
def test_loss_and_gradients_equal_those_of_transformers_masked_attention(name: str) -> None:
    ours, theirs = model_with(segment_attention.NAME, name), model_with("sdpa", name)
    found, wanted = loss_of(ours), loss_of(theirs)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    pairs = zip(ours.named_parameters(), theirs.parameters(), strict=True)
    for (label, parameter), other in pairs:
        torch.testing.assert_close(
            parameter.grad, other.grad, rtol=1e-4, atol=1e-6, msg=lambda m, n=label: f"{n}: {m}"
        )


def test_padded_rows_without_segments_equal_masked_attention() -> None:
    ids = torch.randint(64, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    found, wanted = (
        model_with(kernel)(input_ids=ids, attention_mask=mask).logits
        for kernel in (segment_attention.NAME, "eager")
    )
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1, :5], wanted[1, :5], rtol=1e-4, atol=1e-5)


def test_bf16_autocast_takes_the_states_of_norms() -> None:
    ours, theirs = model_with(segment_attention.NAME), model_with("sdpa")
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = loss_of(ours), loss_of(theirs)
    torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)


# OPT leaks through its mask alone, and there is none here.
@pytest.mark.parametrize("name", sorted({*LEAKING} - {"OPTConfig"}))
def test_probe_still_finds_layers_that_leak(name: str) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, name)(**LEAKING[name])
    segment_attention.offer()
    try:
        model = transformers.AutoModelForCausalLM.from_config(
            config, attn_implementation=segment_attention.NAME
        )
    except ValueError:
        return  # transformers offers this model no attention but its own.
    assert not probe(model, 0).ok


def test_a_model_that_leaks_through_its_mask_alone_is_kept_apart() -> None:
    torch.manual_seed(0)
    config = transformers.OPTConfig(**LEAKING["OPTConfig"])
    kernel = segment_attention.offer()
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=kernel)
    assert probe(model, 0).ok


def test_probe_gives_a_model_that_asks_for_more_its_masks_back() -> None:
    model = model_with(segment_attention.NAME, "Gemma2Config")
    with pytest.raises(ValueError, match="softcap"):
        loss_of(model)
    assert probe(model, 0, masked="sdpa").ok
    assert model.config._attn_implementation == "sdpa"
    assert loss_of(model).isfinite()


def test_suits_reads_the_configuration() -> None:
    assert segment_attention.suits(transformers.Qwen3Config(**GROUPED).to_dict())
    assert not segment_attention.suits(transformers.Gemma2Config(**SOUND["Gemma2Config"]).to_dict())
    assert not segment_attention.suits({"text_config": {"attention_chunk_size": 8}})
    assert not segment_attention.suits({"attention_dropout": 0.1})


def test_bounds_are_where_positions_restart() -> None:
    positions = torch.tensor([[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]])
    assert segment_attention.bounds(positions).tolist() == [0, 3, 5, 6, 10]


def test_variable_length_kernel_is_asked_for_the_same_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The GPU's kernel is not here: a stand-in with its documented meaning takes its place."""

    def stand_in(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_q: torch.Tensor,
        cu_k: torch.Tensor, max_q: int, max_k: int, *, scale: float | None,
        window_size: tuple[int, int], enable_gqa: bool,
    ) -> torch.Tensor:  # fmt: skip
        assert cu_q.dtype == cu_k.dtype == torch.int32
        assert max_q >= int(cu_q.diff().max())
        assert max_k == max_q
        total = len(query)
        index = torch.arange(total)
        owner = torch.bucketize(index, cu_q[1:].long(), right=True)
        gap = index[:, None] - index[None, :]
        mask = (owner[:, None] == owner[None, :]) & (gap >= 0)
        left, right = window_size
        assert right == 0
        if left >= 0:
            mask &= gap <= left
        made = functional.scaled_dot_product_attention(
            *(t.transpose(0, 1)[None] for t in (query, key, value)),
            attn_mask=mask, scale=scale, enable_gqa=enable_gqa,
        )  # fmt: skip
        return made[0].transpose(0, 1)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", stand_in)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 20, 8, generator=generator)
    key, value = torch.randn(2, 1, 2, 20, 8, generator=generator)
    cut = torch.tensor([0, 9, 13, 20], dtype=torch.int32)
    for window in (None, 4):
        found = segment_attention._by_kernel(query, key, value, cut, 0.3, window)
        wanted = segment_attention._one_by_one(query, key, value, cut, 0.3, window)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
