"""Exposure of a canary: how much its loss gives away against others that were never trained on.

Source: Carlini et al. 2019, "The Secret Sharer", definitions 1 and 2 and section 4.3. The rank of
a canary is its place among all its possible contents, the lowest loss first; its exposure is
log2 |R| - log2 rank, from 0 (it might as well not be there) to log2 |R| bits (it is the first).
|R| losses are too many to compute, so two estimates stand for them: the rank among a drawn
reference space, the canary in it; and a skew-normal distribution fitted to the drawn losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def exposure(rank: int, space: int) -> float:
    """log2 |R| - log2 rank, in bits.

    Args:
        rank: from 1 (the lowest loss) to ``space``.
        space: |R|, how many contents a canary could have had.

    Raises:
        ValueError: a rank outside the space.
    """
    if not 1 <= rank <= space:
        raise ValueError(f"rank {rank} is not between 1 and {space}")
    return math.log2(space) - math.log2(rank)


def rank_of(loss: float, reference: Sequence[float]) -> int:
    """The place of a canary among a reference space and itself: ties stand before it."""
    return 1 + int(np.sum(np.asarray(reference) <= loss))


def sampled_exposure(loss: float, reference: Sequence[float]) -> float:
    """Exposure with the drawn reference space and the canary itself as |R|."""
    return exposure(rank_of(loss, reference), len(reference) + 1)


def fitted_exposure(loss: float, reference: Sequence[float], space: int) -> float:
    """-log2 of the share of contents with at most this loss, by a fitted skew-normal.

    Never more than log2 |R|: beyond that the tail of the fit says nothing.
    """
    from scipy.stats import skewnorm

    losses = np.asarray(reference, dtype=float)
    highest = math.log2(space)
    if float(losses.std()) == 0.0:
        return sampled_exposure(loss, reference)
    shape, location, scale = skewnorm.fit(losses)
    below = float(skewnorm.cdf(loss, shape, location, scale))
    return highest if below <= 2.0**-highest else max(0.0, -math.log2(min(below, 1.0)))
