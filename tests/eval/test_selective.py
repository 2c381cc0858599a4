"""Selective prediction against scikit-learn and curves by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from eval.auroc import auroc
from eval.scored import Scored, normalised
from eval.selective import (
    area,
    mean_curve,
    risk_coverage,
    selective_of,
    threshold_for,
)


def drawn(seed: int, items: int = 500, evidence: bool = False) -> Scored:
    rng = np.random.default_rng(seed)
    logs = normalised(rng.normal(0, 2, (items, 3)))
    golds = (np.exp(logs).cumsum(axis=1) < rng.random((items, 1))).sum(axis=1)
    told = rng.normal(-50, 3, items) if evidence else None
    return Scored(("a", "b", "c"), logs, np.minimum(golds, 2), told)


def test_curve_by_hand_takes_equal_confidences_together() -> None:
    confidence = np.array([0.9, 0.8, 0.8, 0.4])
    coverage, risk = risk_coverage(confidence, np.array([True, False, True, False]))
    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0.0, 1 / 3, 0.5])
    assert area(coverage, risk) == pytest.approx(0.0 * 0.25 + 0.5 / 3 + 0.25 * 0.5)


def test_area_is_the_mean_risk_as_items_come_in() -> None:
    table = drawn(1)
    order = np.argsort(-table.confidence)
    wrong = ~table.right[order]
    expected = np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1))
    assert area(*risk_coverage(table.confidence, table.right)) == pytest.approx(expected)


def test_seeds_of_another_scale_of_confidence_have_the_mean_of_their_curves() -> None:
    first, second = drawn(1).at(0.3), drawn(2).at(2.0)
    coverage, risk = mean_curve([first, second])
    alone = [risk_coverage(table.confidence, table.right) for table in (first, second)]
    assert coverage == pytest.approx(alone[0][0])
    assert risk == pytest.approx(np.mean([risk for _, risk in alone], axis=0))
    told = selective_of([first, second], [None] * 2, [[], []])
    assert told["area"] == pytest.approx(np.mean([area(*one) for one in alone]))


def test_equal_confidences_come_in_as_the_mean_of_all_their_orders() -> None:
    sure = np.array([0.9, 0.7, 0.7, 0.7, 0.6])
    right = np.array([True, False, True, True, False])
    logs = np.log(np.stack([sure, 1 - sure], axis=1))
    risk = mean_curve([Scored(("a", "b"), logs, np.where(right, 0, 1))])[1]
    orders = [(0, *middle, 4) for middle in itertools.permutations((1, 2, 3))]
    every = [np.cumsum(~right[list(order)]) / np.arange(1, 6) for order in orders]
    assert risk == pytest.approx(np.mean(every, axis=0))


def test_curve_and_table_say_the_same_of_a_seed() -> None:
    test, validation = drawn(2), drawn(3)
    told = selective_of([test], [validation], [[]], targets=(0.8, 0.9, 0.95))
    curve = dict(told["risk_coverage"])
    for target in told["targets"]:
        near = min(curve, key=lambda coverage: abs(coverage - target["coverage"]))
        assert abs(near - target["coverage"]) < 1 / 200
        assert curve[near] == pytest.approx(1 - target["precision_on_test"], abs=0.01)
        assert target["coverages"] == [target["coverage"]]


def test_threshold_is_the_lowest_that_keeps_the_precision() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, False, True, True, False])
    assert threshold_for(0.75, confidence, right) == 0.6
    assert threshold_for(1.0, confidence, right) == 0.9
    assert threshold_for(0.9, confidence, ~np.ones(5, bool)) is None
    assert threshold_for(0.9, np.zeros(0), np.zeros(0, bool)) is None


def test_target_is_chosen_on_validation_and_told_on_the_test() -> None:
    test, validation = drawn(2), drawn(3)
    found = selective_of([test], [validation], [[]], targets=(0.9,))["targets"][0]
    taken = test.confidence >= found["threshold"]
    assert found["coverage"] == pytest.approx(taken.mean())
    assert found["precision_on_test"] == pytest.approx(test.right[taken].mean())
    answers = int(taken.sum())
    ends = binomtest(int(test.right[taken].sum()), answers).proportion_ci(method="wilson")
    assert (found["low_on_test"], found["high_on_test"]) == pytest.approx((ends.low, ends.high))
    low_enough, high_enough = ends.low >= 0.9, ends.high >= 0.9
    assert found["reached"] == ("yes" if low_enough else "undecided" if high_enough else "no")
    assert found["items"] == 500
    kept = validation.right[validation.confidence >= found["threshold"]]
    assert kept.mean() >= 0.9


def test_without_validation_no_threshold_is_made_up() -> None:
    found = selective_of([drawn(2)], [None], [[]], targets=(0.9,))["targets"][0]
    assert (found["threshold"], found["coverage"], found["reached"]) == (None, None, "no")


def test_precision_that_validation_never_reaches_has_no_threshold() -> None:
    never = drawn(3)
    never = Scored(never.labels, never.logs, (never.logs.argmax(axis=1) + 1) % 3)
    found = selective_of([drawn(2)], [never], [[]], targets=(0.9,))["targets"][0]
    assert (found["threshold"], found["reached"]) == (None, "no")


def all_at(right: int, items: int) -> Scored:
    """Every answer is as sure as every other."""
    logs = np.log(np.tile([0.7, 0.3], (items, 1)))
    return Scored(("a", "b"), logs, np.where(np.arange(items) < right, 0, 1))


@pytest.mark.parametrize(
    ("right", "items", "reached"),
    [(19, 20, "undecided"), (20, 20, "undecided"), (975, 1000, "yes"), (950, 1000, "undecided"),
     (920, 1000, "no")],
)  # fmt: skip
def test_a_target_is_reached_by_the_lower_end_alone(right: int, items: int, reached: str) -> None:
    found = selective_of([all_at(right, items)], [all_at(99, 100)], [[]], targets=(0.95,))
    target = found["targets"][0]
    assert target["precision_on_test"] == right / items
    assert target["reached"] == reached


def test_three_seeds_of_the_same_answers_tell_no_more_than_one() -> None:
    test, held_out = all_at(90, 100), all_at(99, 100)
    one = selective_of([test], [held_out], [[]], targets=(0.9,))["targets"][0]
    three = selective_of([test] * 3, [held_out] * 3, [[]] * 3, targets=(0.9,))["targets"][0]
    assert three["low_on_test"] == pytest.approx(one["low_on_test"])


def test_auroc_is_scikit_learns_with_ties() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, 80).round(1), rng.normal(0, 1, 50).round(1)
    expected = roc_auc_score([1] * 80 + [0] * 50, np.concatenate([inside, outside]))
    assert auroc(inside, outside) == pytest.approx(expected)


def test_out_of_scope_items_are_found_in_the_suite_and_beside_it() -> None:
    test, other = drawn(4, evidence=True), drawn(5, 40, evidence=True)
    assert test.evidence is not None
    assert other.evidence is not None
    golds = np.where(np.arange(len(test)) < 20, -1, test.golds)
    strange = Scored(test.labels, test.logs, golds, test.evidence)
    outsider = Scored(other.labels, other.logs, np.full(40, -1), other.evidence - 20)
    found = selective_of([strange], [None], [[outsider]])
    told = found["out_of_scope"]
    assert told["items"] == 60
    truth = [1] * 480 + [0] * 60
    for name, values in (
        ("confidence", [test.confidence[20:], test.confidence[:20], outsider.confidence]),
        ("evidence", [test.evidence[20:], test.evidence[:20], other.evidence - 20]),
    ):
        assert told[name] == pytest.approx(roc_auc_score(truth, np.concatenate(values)))
    # Evidence is what a generative model of the text has beside its answer.
    assert found["out_of_scope_auroc"] == told["evidence"]


def test_answering_an_item_out_of_scope_is_a_mistake() -> None:
    test = drawn(6)
    strange = Scored(test.labels, test.logs, np.full(len(test), -1))
    found = selective_of([strange], [None], [[]])
    assert found["area"] == 1.0
    assert found["out_of_scope"] is None


def test_curve_has_at_most_200_points_and_ends_at_all_items() -> None:
    table = drawn(7, 5000)
    points = selective_of([table], [None], [[]])["risk_coverage"]
    assert len(points) <= 200
    assert points[-1] == pytest.approx([1.0, 1 - table.right.mean()])
