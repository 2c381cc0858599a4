"""Membership inference: can one tell from its loss whether a row was trained on?

Source: Yeom et al. 2018, "Privacy risk in machine learning", the attack by loss; Carlini et al.
2022, "Membership inference attacks from first principles", section III: the share of members
found while 1 % of others are taken for members.

Legend: M members, O others, B bootstrap draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from eval.statistics import Interval

Floats = npt.NDArray[np.float64]
FALSE_POSITIVES = 0.01
_DRAWS = 1000


def auroc(members: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """How often a member's loss is below an other's, ties counted half (Mann and Whitney 1947)."""
    member_M, other_O = np.asarray(members, dtype=float), np.sort(np.asarray(others, dtype=float))
    below = np.searchsorted(other_O, member_M, side="right")
    strictly = np.searchsorted(other_O, member_M, side="left")
    above_M = len(other_O) - below + 0.5 * (below - strictly)
    return float(above_M.sum() / (len(member_M) * len(other_O)))


def found_at(members: npt.ArrayLike, others: npt.ArrayLike, rate: float = FALSE_POSITIVES) -> float:
    """Share of members whose loss is below a threshold that at most ``rate`` of others are below.

    Raises:
        ValueError: the others are so few that one of them is more than ``rate``.
    """
    other_O = np.sort(np.asarray(others, dtype=float))
    allowed = math.floor(rate * len(other_O) + 1e-9)
    if allowed < 1:
        raise ValueError(f"{rate:.0%} of {len(other_O)} rows is less than one row")
    return float((np.asarray(members, dtype=float) < other_O[allowed]).mean())


def with_interval(
    figure: str, members: Sequence[float], others: Sequence[float], seed: int
) -> Interval:
    """``auroc`` or ``found_at`` with a percentile bootstrap over members and others."""
    take = auroc if figure == "auroc" else found_at
    member_M, other_O = np.asarray(members, dtype=float), np.asarray(others, dtype=float)
    rng = np.random.default_rng(seed)
    drawn_B = [
        take(rng.choice(member_M, len(member_M)), rng.choice(other_O, len(other_O)))
        for _ in range(_DRAWS)
    ]
    estimate = take(member_M, other_O)
    low, high = np.quantile(drawn_B, [0.025, 0.975])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))
