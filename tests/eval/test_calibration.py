"""Calibration against scikit-learn, hand-made bins, and answers that tell nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from eval import calibration
from eval.calibration import calibration_of, fit_temperature, reliability
from eval.record import Prediction
from eval.scored import FLOOR, Scored, normalised, scored
from pipeline.core.errors import IntegrityError

LABELS = ("card", "fee", "limit", "pin")


def drawn(seed: int, items: int = 600, heat: float = 1.0) -> Scored:
    """Labels drawn from the probabilities that logits have at temperature ``heat``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (items, len(LABELS)))
    share = np.exp(normalised(logits / heat))
    golds = (share.cumsum(axis=1) < rng.random((items, 1))).sum(axis=1)
    return Scored(LABELS, normalised(logits), np.minimum(golds, len(LABELS) - 1))


@pytest.mark.parametrize("binning", ["equal width", "equal mass"])
def test_reliability_is_scikit_learns(binning: Any) -> None:
    table = drawn(1)
    strategy = {"equal width": "uniform", "equal mass": "quantile"}[binning]
    right, sure = calibration_curve(table.right, table.confidence, n_bins=10, strategy=strategy)
    found = reliability(table.confidence, table.right, 10, binning)
    assert [one.accuracy for one in found] == pytest.approx(right, abs=0.02)
    assert [one.confidence for one in found] == pytest.approx(sure, abs=0.005)
    assert sum(one.items for one in found) == len(table)


def test_bins_of_equal_mass_hold_as_many_and_keep_equal_confidences_together() -> None:
    confidence = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, 0.9])
    found = reliability(confidence, confidence > 0.2, 3, "equal mass")
    assert [one.items for one in found] == [3, 5, 1]


def test_ece_of_both_binnings_by_hand() -> None:
    confidence, right = [0.9, 0.9, 0.9, 0.9, 0.6, 0.6], [1, 1, 1, 0, 1, 0]
    logs = np.log([[p, 1 - p] for p in confidence])
    table = Scored(("a", "b"), logs, np.where(right, 0, 1))
    for binning in ("equal width", "equal mass"):
        assert calibration.ece(table, 15, binning) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.1)


def test_brier_and_nll_are_scikit_learns() -> None:
    table = drawn(2)
    share, golds = np.exp(table.logs), [LABELS[gold] for gold in table.golds]
    assert calibration.nll(table) == pytest.approx(oracle.log_loss(golds, share, labels=LABELS))
    brier = oracle.brier_score_loss(golds, share, labels=LABELS, scale_by_half=False)
    assert calibration.brier(table) == pytest.approx(brier)


@pytest.mark.parametrize("heat", [0.5, 1.7, 4.0])
def test_temperature_is_scikit_learns_and_brings_back_the_true_one(heat: float) -> None:
    from sklearn.calibration import _TemperatureScaling

    table = drawn(3, 4000, heat)
    found = fit_temperature(table)
    oracle_fit = _TemperatureScaling().fit(table.logs, table.golds)
    # The prior weighs as one item of 4,000.
    assert found.value == pytest.approx(1 / oracle_fit.beta_, rel=3e-3)
    assert found.value == pytest.approx(heat, rel=0.1)
    assert found.items == 4000
    assert ("overconfident" if heat > 1 else "underconfident") in found.words


def test_temperature_changes_no_answer_and_mends_the_test_items() -> None:
    validation, test = drawn(4, heat=2.5), drawn(5, heat=2.5)
    record, fits = calibration_of([test], [validation])
    assert record is not None
    assert fits[0] is not None
    assert (test.at(fits[0].value).right == test.right).all()
    assert record["ece_after"] < record["ece"] / 3
    assert record["nll_after"] < record["nll"]
    assert (record["bins"], record["binning"], record["fitted_on"]) == (15, "equal width", 600)
    assert sum(one["items"] for one in record["reliability"]) == 600


def test_without_validation_items_nothing_is_fitted_and_it_is_said() -> None:
    record, fits = calibration_of([drawn(6)], [None])
    assert record is not None
    assert fits == [None]
    assert record["temperature"] is record["ece_after"] is record["fitted_on"] is None
    assert record["words"] == ["No temperature was fitted: there are no scored validation items."]


@pytest.mark.parametrize("gold", [0, 1])
def test_one_validation_item_fixes_no_temperature(gold: int) -> None:
    found = fit_temperature(Scored(("a", "b"), np.log([[0.8, 0.2]]), np.array([gold])))
    assert found.value == 1.0
    assert "stays 1" in found.words


def test_validation_that_is_all_right_fixes_no_temperature() -> None:
    table = Scored(("a", "b"), np.log([[0.8, 0.2], [0.3, 0.7]]), np.array([0, 1]))
    found = fit_temperature(table)
    assert (found.value, found.items) == (1.0, 2)
    assert found.words.endswith("fix none (all 2 are right).")


def test_few_validation_items_are_told() -> None:
    found = fit_temperature(drawn(7, 30, 2.0))
    assert "30 items tell it roughly" in found.words


@pytest.mark.parametrize(
    ("gap", "items", "right"), [(400.0, 10_000, 7000), (400.0, 100, 70), (4.2, 14, 8)]
)
def test_temperature_is_the_densest_under_a_prior_of_one_item(
    gap: float, items: int, right: int
) -> None:
    logs = np.where(np.arange(items)[:, None] < right, [[0.0, -gap]], [[-gap, 0.0]])
    found = fit_temperature(Scored(("a", "b"), logs, np.zeros(items, dtype=int)))

    def slope(b: float) -> float:
        return items * gap * (expit(gap * b) - right / items) + 1 - 1 / b

    assert 1 / found.value == pytest.approx(brentq(slope, 1e-9, 10), rel=1e-4)
    # Where all are equally sure, many items make them as sure as they are right.
    if items == 10_000:
        assert found.value == pytest.approx(gap / math.log(0.7 / 0.3), rel=2e-3)


def test_a_dozen_items_that_tell_nothing_send_no_temperature_into_the_thousands() -> None:
    rng = np.random.default_rng(0)
    for sure in (0.985, 0.51):
        logs = np.log(np.where(rng.random((14, 1)) < 0.5, [[sure, 1 - sure]], [[1 - sure, sure]]))
        found = fit_temperature(Scored(("a", "b"), logs, np.arange(14) % 2))
        assert 0.5 < found.value < 12


def test_a_temperature_that_is_not_to_be_trusted_says_why() -> None:
    few, many = drawn(4, 30, 2.5), drawn(4, 600, 2.5)
    cold, hot = drawn(5, 600, 0.5), drawn(5, 600, 2.5)
    found = [calibration_of([test], [held])[0] for test, held in
             ((hot, many), (hot, few), (cold, many), (cold, few))]  # fmt: skip
    assert [told["doubts"] for told in found if told] == [
        [], ["from 30 rows alone"], ["worse on the test"],
        ["from 30 rows alone", "worse on the test"],
    ]  # fmt: skip
    all_right = Scored(("a", "b"), np.log([[0.8, 0.2]] * 3), np.zeros(3, dtype=int))
    (told, _) = calibration_of([hot], [all_right])
    assert told is not None
    assert (told["temperature"], told["doubts"]) == (1.0, [])


def test_infinite_scores_stay_within_bounds() -> None:
    row = {"a": 0.0, "b": -math.inf}
    rows = [Prediction(str(i), "b" if i == 3 else "a", "a", row, None, 0.0, 1, 0) for i in range(9)]
    table = scored(rows)
    assert table is not None
    assert calibration.nll(table) == pytest.approx(-FLOOR / 9)
    assert calibration.brier(table) == pytest.approx(2 / 9)
    found = fit_temperature(table)
    assert math.isfinite(calibration.nll(table.at(found.value)))


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_score_that_is_no_number_is_refused_and_named(score: float) -> None:
    good = Prediction("x1", "a", "a", {"a": -0.1, "b": -2.4}, None, 0.0, 1, 0)
    bad = Prediction("x2", "a", "a", {"a": score, "b": -1.0}, None, 0.0, 1, 0)
    with pytest.raises(IntegrityError, match="x2: a score is no number"):
        scored([good, bad])


def test_scores_in_another_order_are_the_same_and_other_labels_are_refused() -> None:
    rows = [
        Prediction("x1", "a", "a", {"a": -0.1, "b": -2.4}, None, 0.0, 1, 0),
        Prediction("x2", "b", "a", {"b": -2.4, "a": -0.1}, None, 0.0, 1, 0),
    ]
    table = scored(rows)
    assert table is not None
    assert table.logs[0] == pytest.approx(table.logs[1])
    odd = Prediction("x3", "a", "a", {"a": -0.1, "c": -2.4}, None, 0.0, 1, 0)
    with pytest.raises(IntegrityError, match="x3: its scores are over other labels"):
        scored([*rows, odd])


def test_item_of_no_known_label_is_out_of_scope_and_no_part_of_calibration() -> None:
    inside = drawn(8, 50)
    outside = Scored(LABELS, inside.logs[:5], np.full(5, -1))
    both = Scored(LABELS, np.vstack([inside.logs, outside.logs]), np.append(inside.golds, [-1] * 5))
    record, alone = (calibration_of([table], [None])[0] for table in (both, inside))
    assert record == alone
    assert calibration_of([outside], [None])[0] is None
