"""Whether probabilities are what they say: reliability, scores, and a temperature that mends it.

Legend: N items, L labels, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eval.record import Prediction
from eval.scored import Bools, Floats, Scored, normalised, scored

BINS = 15
Binning = Literal["equal width", "equal mass"]

# Wide: what keeps a temperature in its place is the prior, of as many items.
_COLDEST, _HOTTEST = 1e-3, 1e6
_PRIOR_ITEMS = 1.0
FEW = 50
"""Held-out items below which a temperature or a threshold is a rough guess."""
# What three digits show.
_NO_BETTER = 5e-4


@dataclass(frozen=True)
class Bin:
    """Items of like confidence: (low, high], mean confidence, share of right ones, number."""

    low: float
    high: float
    confidence: float
    accuracy: float
    items: int


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by so that confidences come true.

    Attributes:
        value: 1 leaves them as they are.
        items: that it was fitted on.
        words: what was found, in a sentence.
    """

    value: float
    items: int
    words: str


def edges(confidence_N: Floats, bins: int, binning: Binning) -> Floats:
    """The B + 1 ends of the bins, each open below.

    Of equal width: k / bins (Guo et al. 2017, equation 3). Of equal mass: as many items in
    each as can be (Nguyen and O'Connor 2015); items of one confidence stay together, so that
    there may be fewer bins.
    """
    if binning == "equal width":
        return np.arange(bins + 1) / bins
    ordered_N = np.sort(confidence_N)
    last = np.ceil(np.arange(1, bins) * len(ordered_N) / bins).astype(int) - 1
    inner = ordered_N[np.clip(last, 0, None)]
    return np.unique(np.concatenate([[0.0], inner, [max(1.0, float(ordered_N[-1]))]]))


def reliability(
    confidence_N: Floats, right_N: Bools, bins: int = BINS, binning: Binning = "equal width"
) -> list[Bin]:
    """The bins that hold an item, from the least confident."""
    ends = edges(confidence_N, bins, binning)
    bin_N = np.clip(np.searchsorted(ends, confidence_N, side="left") - 1, 0, len(ends) - 2)
    items_B = np.bincount(bin_N, minlength=len(ends) - 1)
    sure_B = np.bincount(bin_N, weights=confidence_N, minlength=len(items_B))
    right_B = np.bincount(bin_N, weights=right_N, minlength=len(items_B))
    return [
        Bin(float(ends[k]), float(ends[k + 1]), float(sure_B[k] / n), float(right_B[k] / n), int(n))
        for k, n in enumerate(items_B)
        if n
    ]


def ece(table: Scored, bins: int = BINS, binning: Binning = "equal width") -> float:
    """Expected calibration error: mean distance of confidence from accuracy over the bins."""
    found = reliability(table.confidence, table.right, bins, binning)
    return sum(abs(one.confidence - one.accuracy) * one.items for one in found) / len(table)


def brier(table: Scored) -> float:
    """Mean squared distance of the probabilities from the truth, summed over labels: 0 to 2.

    The original, multi-class form (Brier 1950).
    """
    share_NL = np.exp(table.logs)
    own_N = share_NL[np.arange(len(table)), table.golds]
    return float(((share_NL**2).sum(axis=1) - 2 * own_N + 1).mean())


def nll(table: Scored) -> float:
    """Mean negative log-probability of the right label in nats (log loss); at most 708."""
    return float(-table.logs[np.arange(len(table)), table.golds].mean())


def fit_temperature(table: Scored) -> Temperature:
    """The temperature that makes the right labels of held-out items likeliest.

    With a Gamma prior on b = 1 / temperature that is densest at 1 and weighs as one item more:
    ``b - 1 - log b`` nats are added to the negative log-likelihood. Both are convex in b, so
    that there is one least, at a finite place: a dozen items of scores that tell little would
    else make it thousands, and hundreds of items hardly feel it. Where all items are right (the
    coldest is praised most) or the right labels lie below the mean, 1 stays.

    Args:
        table: of items that neither trained nor judge the model, all in scope.
    """
    items = len(table)
    if not items:
        return Temperature(1.0, 0, "The temperature stays 1: no held-out item has a known label.")
    gold = (np.arange(items), table.golds)
    right = int(table.right.sum())
    # At the hottest all labels are alike; where the right ones lie below the mean, that is best.
    if right == items or (table.logs[gold] - table.logs.mean(axis=1)).mean() <= 0:
        told = f"all {items} are right" if right == items else f"{right} of {items} are right"
        words = f"The temperature stays 1: the validation items fix none ({told})."
        return Temperature(1.0, items, words)
    # Imported late: the plan reads gates without waiting for scipy.
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        logs_N = normalised(table.logs / np.exp(log_temperature))[gold]
        prior = np.exp(-log_temperature) - 1 + log_temperature
        return float(_PRIOR_ITEMS * prior / items - logs_N.mean())

    ends = (float(np.log(_COLDEST)), float(np.log(_HOTTEST)))
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6})
    value = float(np.exp(found.x))
    few = f"; {items} items tell it roughly" if items < FEW else ""
    kind = "overconfident" if value > 1 else "underconfident"
    words = f"Fitted on {items} validation items: {value:.2f}, the model is {kind}{few}."
    return Temperature(value, items, words)


def temperature_of(held_out: Sequence[Prediction]) -> dict[str, Any] | None:
    """The fitted temperature of one arm, as it is kept beside its answers; None without scores."""
    table = scored(held_out)
    return None if table is None else vars(fit_temperature(table.in_scope))


def calibration_of(
    tests: Sequence[Scored], validations: Sequence[Scored | None], bins: int = BINS
) -> tuple[dict[str, Any] | None, list[Temperature | None]]:
    """What a report tells of an arm's probabilities, and the temperature of each seed.

    Args:
        tests: judged items, one table for each seed; those out of scope are left out.
        validations: held-out items of the same seeds; None where there are none.

    Returns:
        ``bins`` and ``binning``; ``ece``, ``ece_equal_mass``, ``brier``, ``nll`` as means over
        seeds; ``temperature`` (geometric mean), ``temperatures``, ``fitted_on`` (items),
        ``ece_after``, ``brier_after``, ``nll_after``, None without validation items; ``doubts``:
        why the temperature is not to be trusted, in words;
        ``reliability`` and ``reliability_after`` over all seeds' items; ``words``. None
        where no item is in scope.
    """
    inside = [table.in_scope for table in tests]
    if not all(len(table) for table in inside):
        return None, [None] * len(tests)
    fits = [None if v is None else fit_temperature(v.in_scope) for v in validations]
    known = [fit for fit in fits if fit is not None]
    record: dict[str, Any] = {"bins": bins, "binning": "equal width", "items": len(inside[0])}
    record |= _figures(inside, bins, "")
    record |= {"temperature": None, "temperatures": None, "fitted_on": None, "words": []}
    record |= {f"{name}_after": None for name in ("ece", "ece_equal_mass", "brier", "nll")}
    record |= {"reliability_after": None, "doubts": []}
    if len(known) == len(tests):
        values = [fit.value for fit in known]
        record["temperature"] = float(np.exp(np.mean(np.log(values))))
        record |= {"temperatures": values, "fitted_on": known[0].items}
        record["words"] = list(dict.fromkeys(fit.words for fit in known))
        cooled = [table.at(fit.value) for table, fit in zip(inside, known, strict=True)]
        record |= _figures(cooled, bins, "_after")
        record["doubts"] = _doubts(record)
    else:
        record["words"] = ["No temperature was fitted: there are no scored validation items."]
    return record, fits


def _doubts(record: Mapping[str, Any]) -> list[str]:
    """What speaks against a temperature that was fitted; nothing of one that stays 1."""
    if all(value == 1 for value in record["temperatures"]):
        return []
    found = [f"from {record['fitted_on']} rows alone"] if record["fitted_on"] < FEW else []
    if record["nll_after"] > record["nll"] + _NO_BETTER:
        found.append("worse on the test")
    return found


def _figures(tables: Sequence[Scored], bins: int, suffix: str) -> dict[str, Any]:
    sure_N = np.concatenate([table.confidence for table in tables])
    right_N = np.concatenate([table.right for table in tables])
    return {
        f"ece{suffix}": float(np.mean([ece(table, bins) for table in tables])),
        f"ece_equal_mass{suffix}": float(np.mean([ece(t, bins, "equal mass") for t in tables])),
        f"brier{suffix}": float(np.mean([brier(table) for table in tables])),
        f"nll{suffix}": float(np.mean([nll(table) for table in tables])),
        f"reliability{suffix}": [vars(one) for one in reliability(sure_N, right_N, bins)],
    }
