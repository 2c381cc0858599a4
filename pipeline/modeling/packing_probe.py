"""Packed rows before a model: what it is given, and the proof that neighbours never meet.

transformers builds the mask itself (``masking_utils.find_packed_sequence_indices``): without an
attention mask and without a cache, a position that does not follow the one before opens a new
segment. Layers with a state of their own (recurrence, convolution) know nothing of that, and
neither does a model that makes its mask elsewhere: hence the probe, on the model at hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.modeling import segment_attention
from pipeline.modeling.loading import plain_model

EXECUTED = "executed by the tests"
VALIDATED = "GPU only: validated, not executed"
# The attention kernels that may be given packed rows; with any other, rows are unpacked.
# Of the last two the layout (and flex's forward pass, compiled for a CPU, once by hand) was
# checked; training with them was not.
BACKENDS = {
    "eager": EXECUTED,
    "sdpa": EXECUTED,
    "flash_attention_2": VALIDATED,
    "flex_attention": VALIDATED,
    # Its way for a GPU (PyTorch's variable-length kernel) ran in benchmarks/train_gpu.py under
    # torch 2.11, where heads are shared unasked: 9.8e-4 of the largest value off, in bf16.
    segment_attention.NAME: EXECUTED,
}

# Allowed differences, as a share of the largest logit. From the row alone: kernels differ with
# the shape, and bf16 and quantised weights round each product. On a GPU TF32 does too, and kernels
# differ more: there the row says in wider blocks of its own how much it is in this very model,
# and so many times as much is allowed, up to an end.
_ALONE_FLOAT32 = 1e-4
_ALONE_ROUNDED = 5e-2
_OWN_ROUNDING = 4
_MOST_FLOAT32 = 5e-3
_MOST_ROUNDED = 0.1
_WIDTHS = (16, 40)
# From the same block with other neighbours: shapes are equal, so nothing rounds otherwise, and
# a small leak shows whatever the weights. Kernels that add in no fixed order are allowed for.
_EXCHANGED = 1e-5
_NOISE = 10
_SEGMENTS = (7, 12, 5)
_PADDING = 3


@dataclass(frozen=True)
class ProbeResult:
    """What the probe found.

    Attributes:
        ok: whether rows may be packed.
        largest_difference: between packed and single rows, as a share of the largest logit;
            infinite where the model cannot be given packed rows at all.
        reason: in a few words, with the tolerance that was applied.
    """

    ok: bool
    largest_difference: float
    reason: str


def segment_positions(lengths: Sequence[int], width: int) -> torch.Tensor:
    """Positions [T] of one row that restart in each segment; padding is a segment of its own."""
    ends = torch.tensor(lengths, dtype=torch.long).cumsum(0)
    starts = torch.cat([torch.zeros(1, dtype=torch.long), ends])
    steps = torch.arange(width)
    return steps - starts[torch.searchsorted(ends, steps, right=True)]


def packed_inputs(
    model: Any, input_ids: torch.Tensor, position_ids: torch.Tensor
) -> dict[str, Any]:
    """What a model is called with, so that it sees segments.

    Args:
        model: a transformers model.
        input_ids: [B, T].
        position_ids: [B, T], from 0 in each segment.

    Returns:
        Keyword arguments. FlashAttention finds segments in a batch of one row only, and our own
        kernel is told where they are in one: there all rows become one, [1, B * T], and the
        caller gives the states their shape back.
    """
    kernel = model.config._attn_implementation
    shape = (1, -1) if kernel in {"flash_attention_2", segment_attention.NAME} else input_ids.shape
    inputs: dict[str, Any] = {
        "input_ids": input_ids.reshape(shape),
        "position_ids": position_ids.reshape(shape),
        # With a cache, transformers looks for no segments.
        "use_cache": False,
    }
    if kernel == segment_attention.NAME:
        bounds = segment_attention.bounds(position_ids)
        if "torch._dynamo" in sys.modules:
            # Else a compiled layer is made for one number of segments first, then for any.
            torch._dynamo.maybe_mark_dynamic(bounds, 0)
        inputs["segment_bounds"] = bounds
    return inputs


def probe(model: Any, pad_id: int, longest: int = 0, masked: str = "eager") -> ProbeResult:
    """Compares a packed row with its segments one by one, and with other neighbours.

    A model that our own kernel does not suit goes back to transformers' masks.

    Args:
        model: a causal model, wrapped by PEFT or not; its mode and its generators stay.
        pad_id: fills the packed row's end.
        longest: tokens of the blocks to be trained on, if known.
        masked: the kernel with masks that it goes back to.
    """
    model = plain_model(model)
    found = _probed(model, pad_id, longest)
    if not found.ok and model.config._attn_implementation == segment_attention.NAME:
        model.set_attn_implementation(masked)
        found = _probed(model, pad_id, longest)
    return found


def _probed(model: Any, pad_id: int, longest: int) -> ProbeResult:
    backend = model.config._attn_implementation
    if backend not in BACKENDS:
        return ProbeResult(False, float("inf"), f"attention {backend} is not offered for packing")
    chunk = getattr(model.config, "attention_chunk_size", None)
    if chunk and longest > chunk:
        # Chunks are counted from the block's start, not from the segment's.
        return ProbeResult(False, float("inf"), f"attention in chunks of {chunk} tokens")
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return _compared(model, pad_id)
    except (TypeError, ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0][:120]
        return ProbeResult(False, float("inf"), f"packed rows are refused ({first})")
    finally:
        model.train(training)


def _compared(model: Any, pad_id: int) -> ProbeResult:
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    first, second = (
        [torch.randint(vocabulary, (n,), generator=generator) for n in _SEGMENTS] for _ in "ab"
    )
    packed = _packed_logits(model, first, pad_id)
    alone = [_logits(model, {"input_ids": ids[None], "use_cache": False})[0] for ids in first]
    scale = max(1e-30, *(float(logits.abs().max()) for logits in alone))
    apart = _largest(packed, alone) / scale
    noise = _largest(packed, _packed_logits(model, first, pad_id)) / scale
    moved = []
    for index, ids in enumerate(first):
        others = [*second[:index], ids, *second[index + 1 :]]
        moved.append(_packed_logits(model, others, pad_id)[index])
    exchanged = _largest(packed, moved) / scale
    exact = all(p.dtype in {torch.float32, torch.float64} for p in model.parameters())
    weights = "float32" if exact else "bf16 or quantised"
    rounding = _ALONE_FLOAT32 if exact else _ALONE_ROUNDED
    if model.get_input_embeddings().weight.is_cuda:
        most = _MOST_FLOAT32 if exact else _MOST_ROUNDED
        rounding = max(rounding, min(_own_rounding(model, first, alone, pad_id) / scale, most))
    reason = (
        f"as a share of the largest logit, {apart:.1e} between packed and single rows "
        f"({rounding:.1g} is rounding with {weights} weights) and {exchanged:.1e} with other "
        f"neighbours ({_EXCHANGED:g} is none)"
    )
    # Written so that a NaN fails.
    ok = apart <= rounding and exchanged <= _EXCHANGED + _NOISE * noise
    return ProbeResult(ok, max(apart, exchanged), reason)


def _own_rounding(
    model: Any, rows: Sequence[torch.Tensor], alone: Sequence[torch.Tensor], pad_id: int
) -> float:
    """How far rows are from themselves with padding behind, where a causal model never looks.

    At two widths, neither of them the packed block's; the smaller difference counts.
    """
    found = []
    for width in _WIDTHS:
        wide = []
        for ids in rows:
            padded = torch.full((width,), pad_id)
            padded[: len(ids)] = ids
            made = _logits(model, {"input_ids": padded[None], "use_cache": False})
            wide.append(made[0, : len(ids)])
        found.append(_largest(wide, alone))
    return _OWN_ROUNDING * min(found)


def _largest(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> float:
    pairs = zip(ours, theirs, strict=True)
    # A tensor's maximum keeps a NaN, where Python's would lose it.
    return float(torch.stack([(a - b).abs().max() for a, b in pairs]).max())


def _packed_logits(
    model: Any, segments: Sequence[torch.Tensor], pad_id: int
) -> tuple[torch.Tensor, ...]:
    ids = torch.cat([*segments, torch.full((_PADDING,), pad_id)])
    positions = segment_positions(_SEGMENTS, len(ids))
    logits = _logits(model, packed_inputs(model, ids[None], positions[None]))[0]
    return logits[: sum(_SEGMENTS)].split(list(_SEGMENTS))


def _logits(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    device = model.get_input_embeddings().weight.device
    moved = {n: v.to(device) if isinstance(v, torch.Tensor) else v for n, v in inputs.items()}
    logits: torch.Tensor = model(**moved).logits
    return logits.float()
