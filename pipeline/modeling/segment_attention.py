"""Attention of each segment by itself: packed rows cost what their rows cost alone.

transformers keeps packed rows apart with a mask over all pairs of a block, which a kernel then
computes, the masked ones too. Here each segment is attended to alone: by PyTorch's
variable-length kernel on a GPU in half precision, else one segment after the other. A row that
is not packed is one segment; rows are padded on the right, where a causal model never looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

NAME = "gradus_segments"
# What a model may ask of its attention that this one does not do.
_UNKNOWN = ("softcap", "s_aux", "position_bias")
_UNKNOWN_SETTINGS = (
    "attn_logit_softcapping", "attention_chunk_size",
    "attention_dropout", "attn_pdrop", "attention_probs_dropout_prob",
)  # fmt: skip
_HALF = (torch.float16, torch.bfloat16)


def offer() -> str:
    """Makes the kernel known to transformers; its name there."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    # No mask is made for a name that transformers' masks do not know.
    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
    return NAME


def suits(config: Mapping[str, Any]) -> bool:
    """Whether a model of this config.json asks nothing unknown; a probe still has to say so."""
    text = config.get("text_config") or config
    return not any(text.get(name) for name in _UNKNOWN_SETTINGS)


def bounds(position_ids: torch.Tensor) -> torch.Tensor:
    """Where segments begin in rows laid end to end, and the end: [S + 1], int32.

    Args:
        position_ids: [B, T], from 0 in each segment.
    """
    flat = position_ids.reshape(-1)
    starts = (flat == 0).nonzero()[:, 0]
    return torch.cat([starts, starts.new_tensor([len(flat)])]).to(torch.int32)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    segment_bounds: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface.

    B rows (1 with ``segment_bounds``), H heads, T tokens, D features of a head.

    Args:
        query: [B, H, T, D]; ``key`` and ``value`` may have fewer heads.
        segment_bounds: of ``bounds``; None: each row is one segment.
        sliding_window: how many tokens one sees, itself among them; None: all before it.

    Returns:
        (states [B, T, H, D], None).

    Raises:
        ValueError: what only another kernel does; the probe then has rows unpacked.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    asked = [name for name in _UNKNOWN if kwargs.get(name) is not None]
    if asked or dropout or attention_mask is not None or not causal:
        raise ValueError(f"segments: no {(asked or ['dropout, mask or two-way attention'])[0]}")
    if query.is_cuda and segment_bounds is not None:
        kind = _half(value)
        if kind is not None:
            query, key, value = query.to(kind), key.to(kind), value.to(kind)
            return _by_kernel(query, key, value, segment_bounds, scaling, sliding_window), None
    if segment_bounds is None:
        return _alone(query, key, value, scaling, sliding_window), None
    return _one_by_one(query, key, value, segment_bounds, scaling, sliding_window), None


def _half(value: torch.Tensor) -> torch.dtype | None:
    """The half precision that the training is in, if any; norms hand float32 back."""
    kind = value.dtype
    if torch.is_autocast_enabled("cuda"):
        kind = torch.get_autocast_dtype("cuda")
    return kind if kind in _HALF else None


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segment_bounds: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    # Of all tokens, not of the longest segment: a number that stays the same compiles once.
    longest = query.shape[2]
    query, key, value = (t[0].transpose(0, 1).contiguous() for t in (query, key, value))
    states: Any = varlen_attn(
        query,
        key,
        value,
        segment_bounds,
        segment_bounds,
        longest,
        longest,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    made: torch.Tensor = states[None]
    return made


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segment_bounds: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    # Lengths differ from batch to batch: to trace this would compile anew each time.
    ends = segment_bounds.tolist()
    sizes = [end - start for start, end in itertools.pairwise(ends)]
    queries, keys, values = (t.split(sizes, dim=2) for t in (query, key, value))
    parts = zip(queries, keys, values, strict=True)
    return torch.cat([_alone(q, k, v, scaling, window) for q, k, v in parts], dim=1)


def _alone(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    length = query.shape[2]
    mask = None
    if window is not None and length > window:
        ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
        mask = ones.tril() & ones.triu(1 - window)
    states = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return states.transpose(1, 2)
