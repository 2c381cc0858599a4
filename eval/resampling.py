"""How sure a mean over seeds and items is, where items may stand in clusters.

Items that share a document or a phrase share its fortune: they are drawn together, as one
cluster. Legend: S seeds, N items, C clusters (an item alone is one), K kinds of cluster that
have the same answers, B draws.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

LEVEL = 0.95
DRAWS = 10_000
_LEAST_CHANCE, _HALVINGS = 1e-200, 60
_CHUNK = 2_000_000  # cells of the resampling table held at once: 16 MB
_CELLS = 4_000_000  # cells that are drawn in all, half a second's work
_MANY = 2000  # kinds from which on the expansion is as good as draws


@dataclass(frozen=True)
class Spread:
    """A mean, drawn towards the added items, and how far the truth may lie from it.

    Attributes:
        centre: the mean with the added items, which hold small samples back.
        item_error: standard error over clusters.
        seed_error: standard error over seeds; 0 with one.
        quantile: how many standard errors the bootstrap's draws of clusters lie off in 5 %.
        clusters: that were drawn, added ones included.
        seeds: that were seen.
    """

    centre: float
    item_error: float
    seed_error: float
    quantile: float
    clusters: int
    seeds: int

    @property
    def error(self) -> float:
        """Standard error over all that is drawn."""
        return math.hypot(self.item_error, self.seed_error)

    @property
    def half(self) -> float:
        """Half the width of the 95 % interval."""
        if not self.error:
            return 0.0
        # Imported late: the plan reads gates without waiting for scipy.
        from scipy.special import stdtrit

        of_seeds = stdtrit(self.seeds - 1, (1 + LEVEL) / 2) if self.seeds > 1 else 0.0
        return self._weighted(of_seeds, self.quantile) * self.error

    def chance_of(self, distance: float) -> float:
        """Chance of a mean at least so far above the truth; its 2.5 % lies at ``half``.

        The level whose interval ends there, so that no p says other than an interval does.
        """
        from scipy.special import stdtrit

        if not self.error:
            return 0.5 if not distance else float(distance < 0)
        if distance < 0:
            return 1 - self.chance_of(-distance)
        errors, free = distance / self.error, self.clusters - 1
        # The bootstrap knows the quantile; beyond its draws the tail is Student's.
        stretch = self.quantile / stdtrit(free, (1 + LEVEL) / 2)
        low, high = math.log(_LEAST_CHANCE), math.log(0.5)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            tail = math.exp(middle)
            of_seeds = -stdtrit(self.seeds - 1, tail) if self.seeds > 1 else 0.0
            if self._weighted(of_seeds, -stdtrit(free, tail) * stretch) > errors:
                low = middle
            else:
                high = middle
        return math.exp(high)

    def _weighted(self, of_seeds: float, of_items: float) -> float:
        seed, item = self.seed_error**2, self.item_error**2
        return float(seed * of_seeds + item * of_items) / (seed + item)


def widened(half: float, figure_S: Floats) -> float:
    """Half of the 95 % interval of the mean of seeds' figures, from that over items alone.

    Seeds by Student's t on S - 1 degrees of freedom, both weighted as ``spread_of`` does.

    Args:
        half: over items, of the mean of the seeds' figures.
        figure_S: the figure of each seed.
    """
    if len(figure_S) < 2:
        return half
    # Imported late: the plan reads gates without waiting for scipy.
    from scipy.special import ndtri

    z = float(ndtri((1 + LEVEL) / 2))
    seed_error = float(figure_S.std(ddof=1)) / math.sqrt(len(figure_S))
    return Spread(0.0, half / z, seed_error, z, 0, len(figure_S)).half


def students(clusters: int) -> float:
    """The 95 % quantile of Student's |t| of a mean of so many clusters."""
    # Imported late: the plan reads gates without waiting for scipy.
    from scipy.special import stdtrit

    return float(stdtrit(clusters - 1, (1 + LEVEL) / 2))


def cluster_codes(clusters: Sequence[Hashable] | None, items: int) -> Ints:
    """A number from 0 for each item's cluster; without clusters each item has its own."""
    if clusters is None:
        return np.arange(items)
    if len(clusters) != items:
        raise ValueError(f"{len(clusters)} clusters of {items} items")
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in clusters], dtype=np.intp)


def spread_of(
    value_SN: Floats,
    *,
    added: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    weight: float | None = None,
    student: bool = False,
) -> Spread:
    """How far the mean of a table of seeds by items may lie off, both being random.

    Crossed random effects: value = mean + seed + item + rest, so that the variance of the
    mean is MS_seed / SN (which holds seed / S and rest / SN) plus (MS_item - MS_rest) / SN
    (item / N); of clusters, items' sums stand for them. The clusters' quantile is that of the
    studentised bootstrap (Efron and Tibshirani 1993, section 12.5), symmetric as Hall (1992,
    section 3.6) has it. Three seeds cannot be drawn so, a ninth of the draws would hold no
    spread: theirs is Student's t on S - 1 degrees of freedom. Both are weighted by their
    variances, as Cochran and Cox (Experimental Designs, 1957, section 4.14) do for unequal
    variances. Satterthwaite's degrees of freedom were tried: they cover 91 to 95 % with three
    seeds, because seeds that agree by chance also raise the degrees; this covers 93 to 98 %.
    A percentile bootstrap was tried too: means of right and wrong answers lie on a lattice,
    and its ends jump from one point to the next.

    Args:
        value_SN: one row for each seed, over the same items.
        added: values of further items, so that a faultless test set does not claim certainty
            (Agresti and Coull 1998; Bonett and Price 2012).
        clusters: of each item; None where each stands by itself.
        weight: items that an added one stands for; by default as many as right and wrong answers
            tell, see ``_added_size``.
        student: the clusters' quantile is Student's, for intervals that are skewed themselves.
    """
    seeds, items = value_SN.shape
    code_N = cluster_codes(clusters, items)
    item_N: Floats = value_SN.mean(axis=0)
    size_C: Floats = np.bincount(code_N).astype(np.float64)
    total_C: Floats = np.bincount(code_N, weights=item_N).astype(np.float64)
    size = _added_size(item_N, total_C, size_C) if weight is None else weight
    size_C = np.concatenate([size_C, np.full(len(added), size)])
    total_C = np.concatenate([total_C, size * np.asarray(added, dtype=float)])
    centre = float(total_C.sum() / size_C.sum())
    item_variance = float(((total_C - centre * size_C) ** 2).sum()) / size_C.sum() ** 2
    # Whole answers that are added are spread enough by themselves.
    if clusters is not None or weight is not None:
        item_variance *= len(size_C) / max(len(size_C) - 1, 1)
    quantile = students(len(size_C)) if student else _quantile(total_C, size_C, centre)
    seed_variance = 0.0
    if seeds > 1:
        seed_variance, rest_variance = _seed_and_rest(value_SN, code_N)
        item_variance = max(item_variance - rest_variance, 0.0)
    return Spread(
        centre, math.sqrt(item_variance), math.sqrt(seed_variance), quantile, len(size_C), seeds
    )


def _added_size(item_N: Floats, total_C: Floats, size_C: Floats) -> float:
    """Items that an added one stands for: the design effect (Kish 1965), N over effective N.

    From 1 to a cluster's size; where all items are alike nothing tells it, and a cluster is
    taken to stand and fall as one.
    """
    mean = item_N.mean()
    alone = float(((item_N - mean) ** 2).sum())
    together = float(((total_C - mean * size_C) ** 2).sum())
    largest = len(item_N) / len(size_C)
    return min(max(together / alone, 1.0), largest) if alone else largest


def _seed_and_rest(value_SN: Floats, code_N: Ints) -> tuple[float, float]:
    """Variance of the mean from seeds (rest included), and the rest alone."""
    seed_S = value_SN.mean(axis=1)
    rest_SN = value_SN - seed_S[:, None] - value_SN.mean(axis=0)[None, :] + value_SN.mean()
    rest_SC = np.stack([np.bincount(code_N, weights=rest_N) for rest_N in rest_SN])
    seeds, clusters = rest_SC.shape
    # One cluster leaves no rest to estimate.
    free = seeds * clusters / max((seeds - 1) * (clusters - 1), 1)
    rest_variance = float((rest_SC**2).sum()) * free / value_SN.size**2
    return float(seed_S.var(ddof=1)) / seeds, rest_variance


def _quantile(total_C: Floats, size_C: Floats, centre: float) -> float:
    """The 95 % quantile of |mean less centre| over its own error, clusters drawn again.

    Clusters of the same total and size are drawn as one kind with their number: of right and
    wrong answers there is a handful of kinds, however many items. Of very many kinds no draws
    are needed, see ``_expanded``.
    """
    kind_C = total_C if (size_C == size_C[0]).all() else total_C + 1j * size_C
    kind_K, first_K, number_K = np.unique(kind_C.round(9), return_index=True, return_counts=True)
    if len(kind_K) > _MANY:
        return _expanded(total_C - centre * size_C)
    # Swapped models must see the mirrored draws.
    order_K = np.argsort(abs(kind_K.real - centre * size_C[first_K]), kind="stable")
    total_K, size_K = kind_K.real[order_K], size_C[first_K][order_K]
    number_K = number_K[order_K]
    moment_K5 = np.stack([total_K, size_K, total_K**2, size_K**2, total_K * size_K], axis=1)
    clusters, sums = len(total_C), []
    rng = np.random.default_rng(0)
    most = min(DRAWS, _CELLS // len(kind_K))
    chunk = max(1, min(most, _CHUNK // len(kind_K)))
    for start in range(0, most, chunk):
        draws = min(chunk, most - start)
        count_BK = rng.multinomial(clusters, number_K / clusters, size=draws).astype(float)
        sums.append(count_BK @ moment_K5)
    total_B, size_B, totals2_B, sizes2_B, both_B = np.concatenate(sums).T
    mean_B = total_B / size_B
    square_B = np.maximum(totals2_B - 2 * mean_B * both_B + mean_B**2 * sizes2_B, 0.0)
    error_B = np.sqrt(square_B) / size_B
    off_B = abs(mean_B - centre)
    # A draw of one kind alone has no spread to measure by. Of a faultless table one in seven is
    # such a draw: taken for infinitely far off, they would make its interval [0, 1].
    whole = math.sqrt(float(((total_C - centre * size_C) ** 2).sum())) / float(size_C.sum())
    error_B = np.where(error_B > 1e-12, error_B, max(whole, 1e-12))
    errors_B = np.where(off_B > 1e-12, off_B / error_B, 0.0)
    return float(np.quantile(errors_B, LEVEL))


def _expanded(off_C: Floats) -> float:
    """What the draws of ``_quantile`` come to with many clusters (Hall 1992, section 2.6).

    The two-sided Edgeworth expansion of a studentised mean, turned round (Cornish and Fisher):
    skewness and kurtosis lengthen the interval.

    Args:
        off_C: each cluster's total less what the mean makes of its size.
    """
    # Imported late: the plan reads gates without waiting for scipy.
    from scipy.special import ndtri

    z = float(ndtri((1 + LEVEL) / 2))
    scaled_C = off_C / off_C.std()
    skew, kurtosis = float((scaled_C**3).mean()), float((scaled_C**4).mean()) - 3
    longer = (z**4 + 2 * z**2 - 3) * skew**2 / 18 + (z**2 + 3) / 4 - (z**2 - 3) * kurtosis / 12
    return z + z * longer / len(off_C)
