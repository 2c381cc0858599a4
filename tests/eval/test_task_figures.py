"""Figures of each kind of task, held to scikit-learn, seqeval and scipy."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from seqeval import metrics as seqeval  # type: ignore[import-untyped]
from sklearn import metrics as oracle

from eval.metrics import label_figures, per_label
from eval.record import Prediction, as_text
from eval.task_figures import f1_difference, figure, figures, kinds_with, label_sets
from pipeline.core.entities import spans_of

LABELS = ["card", "fee", "limit", "pin"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def item(index: int, gold: str, label: str | None, **scores: float) -> Prediction:
    return Prediction(f"e{index:04d}", gold, label, scores or None, None, 0.0, 5, 0)


def several(seed: int, items: int = 120) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(items):
        gold = rng.random(len(LABELS)) < [0.5, 0.3, 0.2, 0.1]
        answer = gold ^ (rng.random(len(LABELS)) < 0.2)
        pair = [[name for name, on in zip(LABELS, side, strict=True) if on]
                for side in (gold, answer)]  # fmt: skip
        rows.append(item(index, as_text(pair[0]), as_text(pair[1])))
    return rows


def matrix(rows: list[Prediction], side: int) -> Any:
    return np.array([[name in label_sets("labels", r)[side] for name in LABELS] for r in rows], int)


def tagged(seed: int, items: int = 80) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(items):
        # Any order of tags: an I- after nothing too, as a head may give.
        gold = rng.choice(TAGS, size=rng.integers(1, 12), p=[0.4, 0.2, 0.15, 0.15, 0.1])
        noise = rng.choice(TAGS, size=len(gold))
        answer = np.where(rng.random(len(gold)) < 0.3, noise, gold)
        rows.append(item(index, as_text(gold.tolist()), as_text(answer.tolist())))
    return rows


def valued(seed: int, items: int = 90) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    gold = 1e6 + rng.normal(0, 3, items).round(1)
    answer = gold + rng.normal(0.5, 2, items)
    return [item(i, as_text(float(g)), as_text(float(a)))
            for i, (g, a) in enumerate(zip(gold, answer, strict=True))]  # fmt: skip


def values(rows: list[Prediction]) -> tuple[Any, Any]:
    return (np.array([json.loads(r.gold) for r in rows]),
            np.array([json.loads(r.label or "") for r in rows]))  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_several_labels_are_scikit_learns(seed: int) -> None:
    rows = several(seed)
    gold, answer = matrix(rows, 0), matrix(rows, 1)
    found = {name: interval.estimate for name, interval in figures("labels", [rows]).items()}
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(gold, answer))
    for average in ("micro", "macro"):
        expected = oracle.f1_score(gold, answer, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(expected)


def test_label_by_label_of_several_labels_is_scikit_learns() -> None:
    rows = several(7)
    sets = [label_sets("labels", row) for row in rows]
    found = per_label([gold for gold, _ in sets], [answer for _, answer in sets])
    expected = oracle.precision_recall_fscore_support(
        matrix(rows, 0), matrix(rows, 1), zero_division=0
    )
    assert [row.label for row in found] == LABELS
    for column, name in enumerate(("precision", "recall", "f1", "support")):
        assert [getattr(row, name) for row in found] == pytest.approx(expected[column].tolist())


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_one_label_are_scikit_learns(seed: int) -> None:
    """What is no label is answered by nobody: it is gold nowhere and costs recall."""
    rng = np.random.default_rng(seed)
    answers = [*LABELS, None]
    rows = [item(i, str(rng.choice(LABELS)), answers[rng.integers(5)]) for i in range(80)]
    gold, answer = [r.gold for r in rows], [r.label or "none of them" for r in rows]
    found = figures("label", [rows])
    for average in ("micro", "macro"):
        expected = oracle.f1_score(gold, answer, average=average, labels=LABELS, zero_division=0)
        assert found[f"{average}_f1"].estimate == pytest.approx(expected)
    assert found["micro_f1"].low < found["micro_f1"].estimate < found["micro_f1"].high


def test_macro_f1_of_one_label_is_that_of_the_table_of_models() -> None:
    rng = np.random.default_rng(1)
    rows = [item(i, str(rng.choice(LABELS)), str(rng.choice([*LABELS, "odd"]))) for i in range(60)]
    assert figure("label", "macro_f1", [rows]).estimate == pytest.approx(
        label_figures(rows)["macro_f1"]
    )


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_tags_are_seqevals(seed: int) -> None:
    rows = tagged(seed)
    gold = [json.loads(row.gold) for row in rows]
    answer = [json.loads(row.label or "") for row in rows]
    found = figures("tags", [rows])
    assert found["entity_f1"].estimate == pytest.approx(seqeval.f1_score(gold, answer))
    assert found["token_accuracy"].estimate == pytest.approx(seqeval.accuracy_score(gold, answer))


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_seqevals_entities(seed: int) -> None:
    from seqeval.metrics.sequence_labeling import get_entities  # type: ignore[import-untyped]

    tags = np.random.default_rng(seed).choice(TAGS, size=30).tolist()
    assert spans_of(tags) == get_entities(tags)


def test_rows_without_an_entity_have_no_f1_to_speak_of() -> None:
    rows = [item(index, '["O", "O"]', '["O", "O"]') for index in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert figure("tags", "entity_f1", [rows]).estimate == seqeval.f1_score(
            [["O", "O"]] * 4, [["O", "O"]] * 4
        )


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_values_are_scikit_learns_and_scipys(seed: int) -> None:
    rows = valued(seed)
    gold, answer = values(rows)
    expected = {
        "mae": oracle.mean_absolute_error(gold, answer),
        "rmse": oracle.root_mean_squared_error(gold, answer),
        "r2": oracle.r2_score(gold, answer),
        "pearson": stats.pearsonr(gold, answer).statistic,
        "spearman": stats.spearmanr(gold, answer).statistic,
    }
    found = {name: interval.estimate for name, interval in figures("value", [rows]).items()}
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("centre", [0.0, 4.0])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e9])
def test_figures_of_values_do_not_depend_on_their_unit(scale: float, centre: float) -> None:
    rng = np.random.default_rng(4)
    gold = scale * (centre + rng.normal(0, 1, 60))
    answer = gold + scale * rng.normal(0.2, 0.3, 60)
    pairs = zip(gold.tolist(), answer.tolist(), strict=True)
    rows = [item(i, as_text(g), as_text(a)) for i, (g, a) in enumerate(pairs)]
    found = figures("value", [rows])
    expected = {
        "r2": oracle.r2_score(gold, answer),
        "pearson": stats.pearsonr(gold, answer).statistic,
        "spearman": stats.spearmanr(gold, answer).statistic,
    }
    for name, value in expected.items():
        assert found[name].estimate == pytest.approx(value, rel=1e-9)
    assert found["r2"].low < found["r2"].estimate < found["r2"].high


@pytest.mark.parametrize("value", [0.1, 1e-9, 1e12 / 3])
def test_equal_values_leave_no_rounding_to_correlate_with(value: float) -> None:
    """A mean of equal numbers need not be that number."""
    rows = [item(index, as_text(value), as_text(float(index))) for index in range(7)]
    turned = [item(index, as_text(float(index)), as_text(value)) for index in range(7)]
    for name in ("pearson", "spearman"):
        assert math.isnan(figure("value", name, [rows]).estimate)
        assert math.isnan(figure("value", name, [turned]).estimate)
    assert math.isnan(figure("value", "r2", [rows]).estimate)


def test_values_that_do_not_vary_have_no_correlation() -> None:
    rows = [item(index, "3.0", as_text(float(index))) for index in range(5)]
    found = figures("value", [rows])
    assert found["mae"].estimate == pytest.approx(1.4)
    assert all(math.isnan(found[name].estimate) for name in ("r2", "pearson", "spearman"))


@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        ("mae", lambda gold, answer: np.abs(answer - gold).mean()),
        ("rmse", lambda gold, answer: np.sqrt(((answer - gold) ** 2).mean())),
        ("pearson", lambda gold, answer: stats.pearsonr(gold, answer).statistic),
    ],
)
def test_intervals_of_many_values_are_scipys_bca_bootstrap(
    name: str, statistic: Callable[[Any, Any], float]
) -> None:
    rows = valued(3, 600)
    expected = stats.bootstrap(
        values(rows), statistic, paired=True, vectorized=False, method="BCa",
        n_resamples=2000, rng=np.random.default_rng(9),
    ).confidence_interval  # fmt: skip
    found = figure("value", name, [rows])
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.08 * width)
    assert found.high == pytest.approx(expected.high, abs=0.08 * width)


def test_a_faultless_test_set_claims_no_certainty() -> None:
    few = [item(index, '["card"]', '["card"]') for index in range(10)]
    many = [item(index, '["card"]', '["card"]') for index in range(1000)]
    for name in ("micro_f1", "macro_f1", "accuracy"):
        short, long = (figure("labels", name, [rows]) for rows in (few, many))
        assert short.estimate == long.estimate == short.high == 1.0
        assert short.low < 0.95 < long.low < 1.0


def test_several_seeds_are_told_together() -> None:
    one, other = several(1), several(1)
    other[0] = item(0, other[0].gold, as_text([]))
    both = figure("labels", "micro_f1", [one, other])
    alone = [figure("labels", "micro_f1", [rows]).estimate for rows in (one, other)]
    assert both.estimate == pytest.approx(sum(alone) / 2)
    assert both.low < both.estimate < both.high
    assert both.covers == "seeds and items"


def test_seeds_that_lie_apart_widen_f1_and_a_difference_of_luck_is_seldom_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both sides are drawn alike: 5 % of the intervals may leave 0 out."""
    monkeypatch.setattr("eval.resampling.DRAWS", 200)
    rng, shown = np.random.default_rng(3), 0
    for draw in range(200):
        sides = [
            [chosen(1000 * draw + 10 * n + side, level) for n, level in enumerate(levels)]
            for side, levels in enumerate(0.7 + rng.normal(0, 0.06, (2, 3)))
        ]
        found = f1_difference("label", "macro_f1", sides[0], sides[1])
        shown += not found.low <= 0 <= found.high
        assert found.covers == "seeds and items"
    assert shown / 200 <= 0.08


def test_preferences_are_counted_and_their_margin_is_the_mean() -> None:
    rows = [item(i, "chosen", "chosen" if m > 0 else "rejected", chosen=m, rejected=0.5 * m)
            for i, m in enumerate((4.0, 2.0, -2.0, 8.0))]  # fmt: skip
    found = figures("preference", [rows])
    assert found["preference_accuracy"].estimate == 0.75
    assert found["preference_margin"].estimate == pytest.approx(1.5)


def test_order_of_rows_changes_no_figure() -> None:
    rows = valued(2)
    assert figures("value", [rows]) == figures("value", [rows[::-1]])


def test_a_metric_of_a_gate_names_the_kinds_that_have_it() -> None:
    assert kinds_with("macro_f1") == ("label", "labels")
    assert kinds_with("micro_f1") == ("label", "labels")
    assert kinds_with("entity_f1") == ("tags",)
    assert kinds_with("loss") == ()


def chosen(seed: int, accuracy: float, items: int = 300) -> list[Prediction]:
    """One label each; the gold labels are the same for every seed."""
    golds = np.random.default_rng(7).choice(LABELS, size=items, p=[0.5, 0.3, 0.15, 0.05])
    rng = np.random.default_rng(seed)
    right = rng.random(items) < accuracy
    other = rng.choice(LABELS, size=items)
    return [
        item(i, g, g if r else o)
        for i, (g, r, o) in enumerate(zip(golds, right, other, strict=True))
    ]


@pytest.mark.parametrize("name", ["macro_f1", "micro_f1"])
def test_difference_in_f1_is_scikit_learns_and_mirrored(name: str) -> None:
    a, b = chosen(1, 0.8), chosen(2, 0.6)
    found, back = f1_difference("label", name, [a], [b]), f1_difference("label", name, [b], [a])
    score = [
        oracle.f1_score([p.gold for p in rows], [p.label for p in rows], average=name[:5])
        for rows in (a, b)
    ]
    assert found.estimate == pytest.approx(score[0] - score[1])
    assert 0 < found.low < found.estimate < found.high
    assert (-back.high, -back.low) == pytest.approx((found.low, found.high), abs=0.01)
    same = f1_difference("label", name, [a], [a])
    assert same.low < 0 < same.high


def test_every_seed_stands_against_one_table_in_f1() -> None:
    ours, theirs = [chosen(seed, 0.8) for seed in range(3)], [chosen(9, 0.6)]
    found = f1_difference("label", "macro_f1", ours, theirs)
    expected = np.mean([figure("label", "macro_f1", [rows]).estimate for rows in ours])
    expected -= figure("label", "macro_f1", theirs).estimate
    assert found.estimate == pytest.approx(expected)


def test_items_that_stand_there_three_times_tell_f1_no_more_than_once() -> None:
    rows = chosen(1, 0.8)
    names = [row.example_id for row in rows for _ in range(3)]
    again = [item(3 * i + n, row.gold, row.label) for i, row in enumerate(rows) for n in range(3)]
    once, clustered = (
        figure("label", "macro_f1", [rows]),
        figure("label", "macro_f1", [again], names),
    )
    assert clustered.covers == "clusters of items, for these weights"
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high), abs=0.01)
