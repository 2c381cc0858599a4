"""The floating-point operations that a training really needs.

A product of [n, i] with [i, o] costs 2 n i o. Backward sends a gradient through a matrix only
where something below it is trained, and makes a weight's gradient only where that weight is:
a frozen weight costs 4 for each value and token instead of 6 (Kaplan et al. 2020, section 2.1).
The attention of a causal model needs the pairs below the diagonal, and no pair across the rows
of a block. What gradient checkpointing computes again is not needed, and stands by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.modeling.outline_parts import AttentionShape, Outline


@dataclass(frozen=True)
class Flops:
    """Operations of one pass over some rows."""

    forward: float
    input_gradients: float
    weight_gradients: float
    attention: float
    recomputed: float

    @property
    def needed(self) -> float:
        """What the update cannot do without: the numerator of MFU."""
        return self.forward + self.input_gradients + self.weight_gradients + self.attention


def training_flops(
    outline: Outline,
    lengths: Sequence[int],
    targets: int,
    *,
    rows: int | None = None,
    every_pair: bool = False,
) -> Flops:
    """Forward and backward over rows of these lengths.

    Args:
        outline: of the training (``pipeline.modeling.outline.outline``).
        lengths: tokens of each row, each segment of a block by itself; no padding.
        targets: how many tokens are predicted: the vocabulary is projected there only.
        rows: what a head judges; default: as many as there are lengths.
        every_pair: count attention over all pairs of a row, masked ones too.

    Returns:
        ``needed`` is the sum; ``recomputed`` is what full gradient checkpointing would add.
    """
    sizes = np.asarray(lengths, dtype=np.float64)
    seen = {
        "body": float(sizes.sum()),
        "vocabulary": float(targets),
        "head": float(len(sizes) if rows is None else rows),
    }
    forward = inputs = weights = inside = 0.0
    for matrix in outline.matrices:
        cost = 2.0 * matrix.size * matrix.active * seen[matrix.role]
        forward += cost
        inputs += cost * matrix.flows
        weights += cost * matrix.trainable
        inside += cost * (matrix.layer is not None)
    attention = scores = 0.0
    for shape in outline.attentions:
        cost = 2.0 * _pairs(shape, sizes, every_pair) * shape.heads
        cost *= shape.query_dim + shape.value_dim
        # Backward: each of the two products becomes two.
        attention += cost * (3 if shape.flows else 1)
        scores += cost
    return Flops(forward, inputs, weights, attention, inside + scores)


def _pairs(shape: AttentionShape, sizes: np.ndarray, every_pair: bool) -> float:
    """Pairs of tokens that see each other."""
    if every_pair or not shape.causal:
        return float((sizes**2).sum())
    reach = np.minimum(sizes, shape.window or np.inf)
    # The first `reach` tokens see 1, 2, ... of them; each later one sees `reach`.
    return float((reach * (reach + 1) / 2 + (sizes - reach) * reach).sum())
