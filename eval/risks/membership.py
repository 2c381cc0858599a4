"""Membership inference: can one tell from its loss whether a row was trained on?

Source: Yeom et al. 2018, "Privacy risk in machine learning", the attack by loss; Carlini et al.
2022, "Membership inference attacks from first principles", section III: the share of members
found while 1 % of others are taken for members.

Legend: M members, O others, B bootstrap draws.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from eval.auroc import auroc
from eval.statistics import CLUSTERS, THESE_WEIGHTS, Interval

Floats = npt.NDArray[np.float64]
FALSE_POSITIVES = 0.01
_DRAWS = 1000


def told_apart(members: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """How often a member's loss is below an other's: the area under the attack's ROC curve."""
    return auroc(others, members)


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
    figure: str,
    members: Sequence[float],
    others: Sequence[float],
    seed: int,
    clusters: tuple[Sequence[Hashable] | None, Sequence[Hashable] | None] = (None, None),
) -> Interval:
    """``auroc`` or ``found_at`` with a percentile bootstrap over members and others.

    Args:
        clusters: of members and of others, where rows share a document: it is drawn as one.
    """
    take = told_apart if figure == "auroc" else found_at
    member_M, other_O = np.asarray(members, dtype=float), np.asarray(others, dtype=float)
    rng = np.random.default_rng(seed)
    sides = [_parts(member_M, clusters[0]), _parts(other_O, clusters[1])]
    drawn_B = [take(*(_drawn(parts, rng) for parts in sides)) for _ in range(_DRAWS)]
    estimate = take(member_M, other_O)
    low, high = np.quantile(drawn_B, [0.025, 0.975])
    covers = CLUSTERS if any(mine is not None for mine in clusters) else THESE_WEIGHTS
    ends = min(float(low), estimate), max(float(high), estimate)
    return Interval(estimate, *ends, covers=covers)


def _parts(values_N: Floats, clusters: Sequence[Hashable] | None) -> list[Floats]:
    """The values of each cluster; each by itself where there are none."""
    if clusters is None:
        return [values_N]
    number: dict[Hashable, int] = {}
    code_N = np.array([number.setdefault(name, len(number)) for name in clusters])
    order_N = np.argsort(code_N, kind="stable")
    return np.split(values_N[order_N], np.cumsum(np.bincount(code_N))[:-1])


def _drawn(parts: Sequence[Floats], rng: np.random.Generator) -> Floats:
    """As many clusters, or values where they stand by themselves, drawn with replacement."""
    if len(parts) == 1:
        return rng.choice(parts[0], len(parts[0]))
    return np.concatenate([parts[place] for place in rng.integers(0, len(parts), len(parts))])
