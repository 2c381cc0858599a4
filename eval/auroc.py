"""How well scores tell two sides apart: the area under the ROC curve.

It is the chance that one of the first side has a higher score than one of the second, ties
counted half (Mann and Whitney 1947; Hanley and McNeil 1982).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def beats(scores: npt.ArrayLike, others: npt.ArrayLike) -> Floats:
    """Of each score, the share of others that it is above; equal ones count half."""
    one_N, other_O = np.asarray(scores, dtype=float), np.sort(np.asarray(others, dtype=float))
    below_N = np.searchsorted(other_O, one_N, side="left")
    up_to_N = np.searchsorted(other_O, one_N, side="right")
    found: Floats = (below_N + up_to_N) / (2 * len(other_O))
    return found


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """The area; both sides hold one score at least."""
    return float(beats(positive, negative).mean())
