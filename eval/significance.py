"""Whether two models differ on the same items: McNemar, several comparisons, what could be shown.

Legend: S seeds, N items, C clusters of items (an item alone is one).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.resampling import Spread, cluster_codes
from eval.statistics import Interval, paired_spread

POWER = 0.8


@dataclass(frozen=True)
class Pair:
    """Two models on the same items.

    Attributes:
        difference: accuracy a less accuracy b.
        p: of no difference, over what the interval covers: it is below 0.05 where the interval
            leaves 0 out.
        mcnemar: p of McNemar's exact test, for these weights. Of several seeds an item counts
            for the model of which more seeds get it right, and a cluster likewise: a sign test.
        mid_p: the same by mid-p.
        smallest: the smallest true difference that four of five such test sets would show.
        seeds: paired.
        clusters: of items that share something; None where each item stands by itself.
    """

    difference: Interval
    p: float
    mcnemar: float
    mid_p: float
    smallest: float
    seeds: int
    clusters: int | None
    spread: Spread

    def chance_worse_by(self, margin: float) -> float:
        """One-sided p of a being worse by the margin or more: 0.025 is that of the interval."""
        return self.spread.chance_of(self.spread.centre + margin)


def mcnemar(only_a: int, only_b: int) -> tuple[float, float]:
    """Two-sided p of no difference, from the items that one model alone gets right.

    Args:
        only_a: items that only a gets right.
        only_b: items that only b does.

    Returns:
        Exact, by the binomial test (McNemar 1947); and mid-p, half of the observed chance taken
        off, which is less cautious (Fagerland, Lydersen and Laake 2013).
    """
    # Imported late, and without scipy.stats, which alone takes a second.
    from scipy.special import bdtr

    items, less = only_a + only_b, min(only_a, only_b)
    if not items:
        return 1.0, 1.0
    up_to = float(bdtr(less, items, 0.5))
    seen = up_to - (float(bdtr(less - 1, items, 0.5)) if less else 0.0)
    return min(2 * up_to, 1.0), min(2 * up_to - seen, 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p as it stands among all of them (Holm 1979): below 0.05 still means shown."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = highest
    return [float(p) for p in adjusted]


def smallest_difference(discordant: float, items: int, power: float = POWER) -> float:
    """The smallest difference that a paired test of so many items shows with this power.

    Solves Connor (1987), equation 5: N d^2 = (z sqrt(q) + z' sqrt(q - d^2))^2 for two-sided
    5 %, d the difference, q the share of items that one model alone gets right.

    Args:
        discordant: q; one item for each model is added, as where none was seen nothing else
            would tell how many there are.
        items: N.
    """
    # Imported late: the plan reads gates without waiting for scipy.
    from scipy.special import ndtri

    share = (discordant * items + 2) / (items + 2)
    z, z_power = float(ndtri(0.975)), float(ndtri(power))
    square = items + z_power**2
    root = z * z * items * share - square * share * (z * z - z_power**2)
    found = (z * math.sqrt(items * share) + math.sqrt(max(root, 0.0))) / square
    # No difference is larger than the items that differ; then no such test shows any.
    return min(found, 1.0)


def compared(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    clusters: Sequence[Hashable] | None = None,
) -> Pair:
    """Every figure of two models on the same items.

    Args:
        a: [S, N] right (1) and wrong (0); one row stands against every seed of the other side.
        b: the same of the other model.
        clusters: of each item, where items share a document or a phrase.
    """
    from scipy.special import ndtri

    difference, spread = paired_spread(a, b, clusters)
    value_SN = a - b
    seeds, items = value_SN.shape
    if seeds == 1 and clusters is None:
        smallest = smallest_difference(float((value_SN != 0).mean()), items)
    else:
        smallest = min(spread.half + float(ndtri(POWER)) * spread.error, 1.0)
    sums_C = np.bincount(cluster_codes(clusters, items), weights=value_SN.sum(axis=0))
    return Pair(
        difference,
        min(2 * spread.chance_of(abs(spread.centre)), 1.0),
        *mcnemar(int((sums_C > 1e-9).sum()), int((sums_C < -1e-9).sum())),
        smallest,
        seeds,
        None if clusters is None else len(sums_C),
        spread,
    )
