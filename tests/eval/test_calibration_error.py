"""The interval of a calibration error: luck alone breaks no promise, and no truth lies above it."""

from __future__ import annotations

import numpy as np
import pytest

from eval import calibration
from eval.calibration_error import ece_interval
from eval.record import Prediction
from eval.scored import normalised, scored

LABELS = ("card", "fee", "limit", "pin")


def answers(rng: np.random.Generator, items: int, heat: float = 1.0) -> list[Prediction]:
    """Labels drawn from the probabilities that the told logits have at temperature ``heat``."""
    logits = rng.normal(0, 1.2, (items, len(LABELS)))
    logs, truth = normalised(logits), np.exp(normalised(logits / heat))
    golds = np.minimum((truth.cumsum(axis=1) < rng.random((items, 1))).sum(axis=1), 3)
    return [
        Prediction(
            f"e{index:05d}", LABELS[gold], LABELS[int(row.argmax())],
            dict(zip(LABELS, row.tolist(), strict=True)), None, 0.0, 5, 0,
        )
        for index, (row, gold) in enumerate(zip(logs, golds, strict=True))
    ]  # fmt: skip


def ends(tables: list[list[Prediction]], clusters: list[str] | None = None) -> tuple[float, float]:
    found = ece_interval(tables, clusters)
    assert found is not None
    table = scored(tables[0])
    assert table is not None
    if len(tables) == 1:
        assert found.estimate == pytest.approx(calibration.ece(table))
    assert found.low <= found.estimate <= found.high
    return found.low, found.high


@pytest.mark.parametrize("items", [60, 250])
def test_true_probabilities_break_no_promise_in_more_than_5_percent_of_draws(items: int) -> None:
    """A gate fails where the lower end is above its bound; the least bound of all is 0."""
    rng = np.random.default_rng(items)
    lows = [ends([answers(rng, items)])[0] for _ in range(400 if items == 60 else 200)]
    assert np.mean(np.array(lows) > 0) <= 0.05


@pytest.mark.parametrize(("items", "heat", "truth"), [(200, 2.0, 0.1426), (600, 1.3, 0.0613)])
def test_ends_hold_the_error_of_a_model_that_is_too_sure(
    items: int, heat: float, truth: float
) -> None:
    """The truth is what two million items of such a model show."""
    rng = np.random.default_rng(items)
    found = np.array([ends([answers(rng, items, heat)]) for _ in range(150)])
    assert np.mean(found[:, 0] > truth) <= 0.03
    assert np.mean(found[:, 1] < truth) <= 0.04


def test_an_error_that_is_no_luck_is_found() -> None:
    low, high = ends([answers(np.random.default_rng(1), 3000, 3.0)])
    assert 0.1 < low < high < 0.4


def test_items_that_stand_there_four_times_tell_no_more_than_once() -> None:
    rows = answers(np.random.default_rng(9), 300, 3.0)
    names = [row.example_id for row in rows for _ in range(4)]
    again = [
        Prediction(f"{row.example_id}-{copy}", *list(vars(row).values())[1:])
        for row in rows for copy in range(4)
    ]  # fmt: skip
    assert ends([again], names)[1] == pytest.approx(ends([rows])[1], abs=0.01)
    naive, once = ends([again]), ends([rows])
    assert naive[1] - naive[0] < 0.7 * (once[1] - once[0])


def test_seeds_that_lie_apart_widen_it() -> None:
    """The same items; one seed is as sure as it should be, and one far too sure."""
    rng = np.random.default_rng(3)
    true = answers(rng, 400)
    sure = [
        Prediction(
            row.example_id, row.gold, row.label,
            dict(zip(LABELS, normalised(4 * np.array([list(row.scores.values())]))[0].tolist(),
                     strict=True)),
            None, 0.0, 5, 0,
        )
        for row in true if row.scores is not None
    ]  # fmt: skip
    same, apart = ends([true, true, true]), ends([true, sure, sure])
    assert apart[1] - apart[0] > 2 * (same[1] - same[0])


def test_without_scores_or_out_of_scope_there_is_none() -> None:
    bare = [Prediction("x", "a", "a", None, None, 0.0, 1, 0)]
    assert ece_interval([bare]) is None
    strange = [Prediction("x", "b", "a", {"a": -0.1, "c": -2.4}, None, 0.0, 1, 0)]
    assert ece_interval([strange]) is None
