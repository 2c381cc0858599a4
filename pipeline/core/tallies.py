"""Figures of merit from sums over items, wherever those were counted: definitions stand once.

Sums add up over batches, processes and the draws of a bootstrap, so that a figure of any of these
is the figure of its sums. Legend: L labels; any further axes stand before those that are named.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# What is left of equal numbers after their squares are summed and taken off is rounding.
_ROUNDING = 1e-12


def f1(counts: npt.ArrayLike) -> Floats:
    """F1 of [..., (right, answered, gold)]; 0 where nothing is gold and nothing answered."""
    right, answered, gold = np.moveaxis(np.asarray(counts, float), -1, 0)
    return ratio(2 * right, answered + gold)


def micro_f1(counts_3L: npt.ArrayLike) -> Floats:
    """F1 of all labels' counts together.

    Args:
        counts_3L: right, answered and gold of each label.
    """
    return f1(np.asarray(counts_3L, float).sum(axis=-1))


def macro_f1(counts_3L: npt.ArrayLike) -> Floats:
    """Plain mean of F1 over the labels that are gold or were answered; 0 where none is."""
    counts = np.asarray(counts_3L, float)
    there = (counts[..., 1, :] + counts[..., 2, :]) > 0
    each = f1(np.moveaxis(counts, -2, -1))
    return ratio(np.where(there, each, 0.0).sum(axis=-1), there.sum(axis=-1))


def r2(items: Floats, squared_error: Floats, gold: Floats, gold_squared: Floats) -> Floats:
    """1 less the squared error over the spread of the gold values; NaN where they do not vary."""
    around = spread(items, gold, gold_squared)
    return over(around - squared_error, around)


def spread(items: Floats, total: Floats, squared: Floats) -> Floats:
    """Squared deviations from the mean, summed; 0 where they are no more than rounding.

    Rounding is as large as the squares that were summed, so it is held against them: values of
    1e-8 vary as well as those of 1e9.
    """
    around = squared - total**2 / items
    return np.asarray(np.where(around > _ROUNDING * squared, around, 0.0))


def over(top: npt.ArrayLike, bottom: npt.ArrayLike) -> Floats:
    """top / bottom; NaN where the bottom is 0."""
    there = np.asarray(bottom) > 0
    return np.asarray(np.where(there, top / np.where(there, bottom, 1.0), np.nan))


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """part / whole; 0 where the whole is 0, as scikit-learn's ``zero_division=0``."""
    there = np.asarray(whole) > 0
    return np.asarray(np.where(there, part / np.where(there, whole, 1.0), 0.0))
