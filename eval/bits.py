"""Bits per byte with intervals: text losses of models whose tokenizers differ.

Legend: D documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eval.record import TextLoss
from eval.statistics import Interval, ratio_interval
from pipeline.core.errors import IntegrityError


def bits_interval(losses: Sequence[TextLoss], rng: np.random.Generator) -> Interval | None:
    """Interval of bits per UTF-8 byte over documents; None where bytes are not known."""
    if not losses or any(loss.tokens and not loss.utf8_bytes for loss in losses):
        return None
    bits_D = np.array([loss.nll_sum for loss in losses]) / math.log(2)
    bytes_D = np.array([loss.utf8_bytes for loss in losses], dtype=float)
    if not bits_D.sum() or not bytes_D.sum():
        return None
    return ratio_interval(bits_D, bytes_D, rng)


def bits_ratio_interval(
    a: Sequence[TextLoss], b: Sequence[TextLoss], rng: np.random.Generator
) -> Interval:
    """Interval of bits per byte a over those of b, on the same documents in the same order.

    Raises:
        IntegrityError: the documents or their bytes are not the same.
    """
    ours, theirs = ([(loss.example_id, loss.utf8_bytes) for loss in side] for side in (a, b))
    if ours != theirs:
        odd = next((o for o, t in zip(ours, theirs, strict=False) if o != t), ("the last one", 0))
        raise IntegrityError(
            f"document {odd[0]} ({odd[1]} bytes) stands against another; "
            "evaluate both models on the same suite"
        )
    nll_a_D, nll_b_D = (np.array([loss.nll_sum for loss in side]) for side in (a, b))
    return ratio_interval(nll_a_D, nll_b_D, rng)
