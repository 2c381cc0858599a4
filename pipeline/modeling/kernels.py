"""Which attention kernel a training takes: what the loop loads, and what the price counts with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.modeling import segment_attention

# Rows up to this mean length are short: plain attention was 1.4 times as fast as the fused
# kernel on a CPU.
SHORT_ROWS = 64


def kernel_of(
    asked: str | None,
    shape: Mapping[str, Any],
    lengths: NDArray[np.int64],
    *,
    packed: bool,
    gpu: bool,
) -> str:
    """The kernel, by transformers' name; ``segment_attention.NAME`` has to be offered to it first.

    Args:
        asked: `train.attention`.
        shape: config.json of the base.
        lengths: tokens of each row of the training split; none where they are not known yet.
        packed: rows share blocks.
    """
    if asked not in {None, "auto"}:
        return str(asked)
    if packed and segment_attention.suits(shape):
        return segment_attention.NAME
    return masked_kernel(lengths, gpu=gpu)


def masked_kernel(lengths: NDArray[np.int64], *, gpu: bool) -> str:
    """The kernel for rows that keep their masks."""
    short = len(lengths) > 0 and lengths.mean() <= SHORT_ROWS
    return "eager" if short and not gpu else "sdpa"
