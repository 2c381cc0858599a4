"""How sure a calibration error is: never above what true probabilities would show by luck.

Legend: S seeds, N items, B bins, U units (items; clusters, where items share one), D draws.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from eval.calibration import BINS, edges
from eval.clusters import summed
from eval.record import Prediction
from eval.resampling import widened
from eval.scored import Floats, scored
from eval.statistics import Interval, bounded, covers_of

_DRAWS = 1000


def ece_interval(
    tables: Sequence[Sequence[Prediction]],
    clusters: Sequence[Hashable] | None = None,
    bins: int = BINS,
) -> Interval | None:
    """Interval of the expected calibration error over items; None without scores or out of scope.

    The error is a sum of absolute gaps, so that luck alone makes it larger than 0, and its draws
    larger still. By the triangle inequality it is at most the true error plus the luck's own:
    the lower end takes off as much as luck gives in 97.5 % of draws, and is 0 where true
    probabilities would show as much (consistency resampling: Broecker and Smith 2007; Vaicenavicius
    et al. 2019). The upper end is that of the draws themselves, which lie above the truth: it is
    on the safe side.

    Args:
        tables: one for each seed, over the same items.
        clusters: of each item, in the order of their ids.
        bins: of equal width.
    """
    gaps, sure = [], []
    for predictions in tables:
        table = scored(sorted(predictions, key=lambda p: p.example_id))
        if table is None or (table.golds < 0).any():
            return None
        inner = edges(table.confidence, bins, "equal width")[1:-1]
        place = (np.arange(len(table)), np.searchsorted(inner, table.confidence))
        gap_NB = np.zeros((len(table), bins))
        gap_NB[place] = table.right - table.confidence
        sure_NB = np.full((len(table), bins), np.nan)
        sure_NB[place] = table.confidence
        gaps.append(gap_NB)
        sure.append(sure_NB)
    gap_SNB = np.stack(gaps)
    items = gap_SNB.shape[1]
    total_SB = gap_SNB.sum(axis=1)
    figure_S = abs(total_SB).sum(axis=1) / items
    estimate = float(figure_S.mean())
    luck_DSB = _drawn(gap_SNB, clusters)
    drawn_D = abs(total_SB + luck_DSB).sum(axis=2).mean(axis=1) / items
    luck_D = abs(luck_DSB).sum(axis=2).mean(axis=1) / items
    luck = max(np.quantile(luck_D, 0.975), np.quantile(_of_true(np.stack(sure)), 0.975))
    low = estimate - widened(float(luck), figure_S)
    high = estimate + widened(max(float(np.quantile(drawn_D, 0.975)) - estimate, 0.0), figure_S)
    return bounded(estimate, low, high, 0.0, 1.0, covers_of(len(tables), clusters))


def _drawn(gap_SNB: Floats, clusters: Sequence[Hashable] | None) -> Floats:
    """[D, S, B]: sums of gaps less their own, units drawn again, all seeds on the same units.

    Drawn from the normal distribution with the covariance that drawing units with replacement
    has: its cost does not grow with the items.
    """
    seeds, items, bins = gap_SNB.shape
    flat_NK = gap_SNB.transpose(1, 0, 2).reshape(items, seeds * bins)
    unit_UK = summed(flat_NK, clusters)
    off_UK = unit_UK - unit_UK.mean(axis=0)
    rng = np.random.default_rng(0)
    drawn_DK = rng.multivariate_normal(
        np.zeros(seeds * bins), off_UK.T @ off_UK, size=_DRAWS, method="eigh", check_valid="ignore"
    )
    return np.asarray(drawn_DK.reshape(_DRAWS, seeds, bins))


def _of_true(sure_SNB: Floats) -> Floats:
    """[D]: the error of labels that come true as often as the model says.

    Of each bin a binomial count at its mean confidence, which spreads more than counts at the
    items' own (Hoeffding 1956); the seeds share their luck, as they share the labels.
    """
    # Imported late: the plan reads gates without waiting for scipy.
    from scipy.stats import binom

    items = sure_SNB.shape[1]
    there_SB = np.isfinite(sure_SNB).sum(axis=1)
    mean_SB = np.nansum(sure_SNB, axis=1) / np.maximum(there_SB, 1)
    luck_DB = np.random.default_rng(1).random((_DRAWS, sure_SNB.shape[2]))
    errors = [
        abs(binom.ppf(luck_DB, there_B, np.minimum(mean_B, 1.0)) - there_B * mean_B).sum(axis=1)
        for there_B, mean_B in zip(there_SB, mean_SB, strict=True)
    ]
    return np.asarray(np.mean(errors, axis=0) / items)
