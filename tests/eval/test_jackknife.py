"""Intervals of figures of sums: pseudo-values by scikit-learn, coverage over 1,000 draws."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from eval import resampling
from eval.jackknife import pseudo_values, share_interval, summed_interval
from eval.record import Prediction, as_text
from eval.statistics import Interval, mean_interval
from eval.task_figures import f1_difference, figure
from pipeline.core.tallies import f1

DRAWS = 1000
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Drawn = tuple[Ints, Ints]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer draws of the bootstrap only make the width of each interval less sure."""
    monkeypatch.setattr(resampling, "DRAWS", 400)


def answered(golds: Ints, answers: Ints) -> list[Prediction]:
    """Answers by their numbers; like ones are one object, so that a thousand tables cost little."""
    kinds = {
        (gold, answer): Prediction("x", f"c{gold:02d}", f"c{answer:02d}", None, None, 0.0, 1, 0)
        for gold, answer in {*zip(golds.tolist(), answers.tolist(), strict=True)}
    }
    return [kinds[pair] for pair in zip(golds.tolist(), answers.tolist(), strict=True)]


def drawn(rng: np.random.Generator, items: int, share_L: Floats, accuracy: float) -> Drawn:
    """Gold labels by their shares; a wrong answer is any label."""
    golds = rng.choice(len(share_L), items, p=share_L)
    right = rng.random(items) < accuracy
    return golds, np.where(right, golds, rng.integers(0, len(share_L), items))


def macro(golds: Ints, answers: Ints) -> float:
    return float(f1_score(golds, answers, average="macro"))


def covered(found: Iterator[Interval], truth: float) -> float:
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def moments(golds: Ints, answers: Ints, labels: int) -> Floats:
    """[1, N, 3 L]: of each label whether it was right, answered, gold."""
    one_NL = np.eye(labels)
    gold_NL, answer_NL = one_NL[golds], one_NL[answers]
    return np.concatenate([gold_NL * answer_NL, answer_NL, gold_NL], axis=1)[None]


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_pseudo_values_are_scikit_learns_f1_less_that_without_each_item(average: str) -> None:
    from pipeline.core.tallies import macro_f1, micro_f1

    rng = np.random.default_rng(0)
    golds, answers = drawn(rng, 30, np.full(5, 0.2), 0.6)
    of_counts = {"micro": micro_f1, "macro": macro_f1}[average]

    def of_sums(sums: Floats) -> Floats:
        return of_counts(sums.reshape(*sums.shape[:-1], 3, 5))

    whole = f1_score(golds, answers, average=average)
    without = [
        f1_score(np.delete(golds, i), np.delete(answers, i), average=average) for i in range(30)
    ]
    expected = 30 * whole - 29 * np.array(without)
    assert pseudo_values(moments(golds, answers, 5), of_sums)[0] == pytest.approx(expected)


def test_pseudo_values_of_a_mean_are_its_values() -> None:
    values = np.random.default_rng(1).normal(0, 1, 40)
    table = np.stack([values, np.ones(40)], axis=1)[None]
    found = pseudo_values(table, lambda sums: sums[..., 0] / sums[..., 1])
    assert found[0] == pytest.approx(values)


def test_micro_f1_of_one_label_each_has_wilsons_interval() -> None:
    """It is the accuracy; Student's quantile is a little above the normal one."""
    golds, answers = drawn(np.random.default_rng(2), 400, np.full(4, 0.25), 0.8)
    found = figure("label", "micro_f1", [answered(golds, answers)])
    expected = mean_interval([(golds == answers).astype(float)])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-3)


@pytest.mark.parametrize(("items", "labels", "accuracy"), [(300, 4, 0.8), (623, 18, 0.4)])
def test_macro_f1_covers_93_to_97_percent(items: int, labels: int, accuracy: float) -> None:
    rng, share_L = np.random.default_rng(items), np.full(labels, 1 / labels)
    truth = macro(*drawn(rng, 400_000, share_L, accuracy))
    tables = (answered(*drawn(rng, items, share_L, accuracy)) for _ in range(DRAWS))
    found = (figure("label", "macro_f1", [rows]) for rows in tables)
    assert 0.93 <= covered(found, truth) <= 0.97


def test_macro_f1_of_three_items_to_a_label_is_about_all_items_and_wide() -> None:
    """200 items of 77 labels show 0.03 less on average; what they hide is added, with some more."""
    rng, share_L = np.random.default_rng(2), np.full(77, 1 / 77)
    truth = macro(*drawn(rng, 400_000, share_L, 0.9))
    tables = [answered(*drawn(rng, 200, share_L, 0.9)) for _ in range(DRAWS)]
    found = [figure("label", "macro_f1", [rows]) for rows in tables]
    assert np.mean([one.estimate for one in found]) < truth - 0.02
    assert 0.93 <= covered(iter(found), truth) <= 0.99


@pytest.mark.parametrize("balanced", [False, True])
def test_macro_f1_of_ten_items_to_a_label_covers_93_to_98_percent(balanced: bool) -> None:
    """770 items of 77 labels; what leaving one of ten out shows of its label is a little much."""
    rng, share_L = np.random.default_rng(1), np.full(77, 1 / 77)
    truth = macro(*drawn(rng, 400_000, share_L, 0.9))

    def table() -> list[Prediction]:
        golds, answers = drawn(rng, 770, share_L, 0.9)
        if balanced:
            fixed = np.arange(770) % 77
            answers = np.where(golds == answers, fixed, answers)
            golds = fixed
        return answered(golds, answers)

    found = (figure("label", "macro_f1", [table()]) for _ in range(DRAWS))
    assert 0.93 <= covered(found, truth) <= 0.98


@pytest.mark.long
def test_macro_f1_of_banking77s_size_covers_93_to_97_percent() -> None:
    rng, share_L = np.random.default_rng(4), np.full(77, 1 / 77)
    truth = macro(*drawn(rng, 2_000_000, share_L, 0.93))
    tables = (answered(*drawn(rng, 3080, share_L, 0.93)) for _ in range(DRAWS))
    found = (figure("label", "macro_f1", [rows]) for rows in tables)
    assert 0.93 <= covered(found, truth) <= 0.97


def test_two_labels_of_six_items_hide_no_luck() -> None:
    """A label of which three items are right seems to be sure: it is not taken for that."""
    rng = np.random.default_rng(5)
    share_L = np.array([24] * 8 + [3] * 2) / 198
    truth = macro(*drawn(rng, 400_000, share_L, 0.8))
    tables = (answered(*drawn(rng, 200, share_L, 0.8)) for _ in range(DRAWS))
    found = (figure("label", "macro_f1", [rows]) for rows in tables)
    assert 0.93 <= covered(found, truth) <= 0.97


@pytest.mark.parametrize("labels", [4, 30])
def test_difference_in_macro_f1_covers_93_to_97_percent(labels: int) -> None:
    rng, share_L = np.random.default_rng(labels), np.full(labels, 1 / labels)

    def pair(items: int) -> tuple[Ints, Ints, Ints]:
        golds, a = drawn(rng, items, share_L, 0.8)
        b = np.where(rng.random(items) < 0.85, golds, rng.integers(0, labels, items))
        # Half of the items are as hard for both.
        b = np.where(rng.random(items) < 0.5, np.where(rng.random(items) < 0.9, a, golds), b)
        return golds, a, b

    golds, a, b = pair(400_000)
    truth = macro(golds, a) - macro(golds, b)
    tables = (pair(300) for _ in range(DRAWS))
    found = (
        f1_difference("label", "macro_f1", [answered(golds, a)], [answered(golds, b)])
        for golds, a, b in tables
    )
    assert 0.93 <= covered(found, truth) <= 0.97


@pytest.mark.parametrize("items", [20, 40, 100])
def test_mean_error_of_skewed_errors_covers_93_to_97_percent(items: int) -> None:
    rng = np.random.default_rng(items)

    def rows() -> list[Prediction]:
        errors = rng.exponential(1.0, items).tolist()
        return [Prediction("x", "0.0", as_text(e), None, None, 0.0, 1, 0) for e in errors]

    found = (figure("value", "mae", [rows()]) for _ in range(DRAWS))
    assert 0.93 <= covered(found, 1.0) <= 0.97


def test_root_mean_squared_error_covers_93_to_97_percent() -> None:
    rng = np.random.default_rng(7)

    def rows() -> list[Prediction]:
        errors = rng.normal(0, 1, 60).tolist()
        return [Prediction("x", "0.0", as_text(e), None, None, 0.0, 1, 0) for e in errors]

    found = (figure("value", "rmse", [rows()]) for _ in range(DRAWS))
    assert 0.93 <= covered(found, 1.0) <= 0.97


def entities(rng: np.random.Generator, texts: int, ability: float) -> Floats:
    """[1, N, 3]: texts of two or of eight entities, each text as hard as it is."""
    gold_N = rng.poisson(2.0, texts) + rng.poisson(6.0, texts) * (rng.random(texts) < 0.3)
    right_N = rng.binomial(gold_N, stats.logistic.cdf(ability + rng.normal(0, 1, texts)))
    found_N = right_N + rng.binomial(gold_N - right_N, 0.7) + rng.poisson(0.1, texts)
    return np.stack([right_N, found_N, gold_N], axis=1)[None].astype(float)


@pytest.mark.parametrize("ability", [1.0, 3.0])
@pytest.mark.parametrize("texts", [40, 200])
def test_entity_f1_covers_93_to_97_percent(texts: int, ability: float) -> None:
    rng = np.random.default_rng(round(texts + ability))
    truth = float(f1(entities(rng, 1_000_000, ability)[0].sum(axis=0)))
    found = (share_interval(entities(rng, texts, ability), f1) for _ in range(DRAWS))
    assert 0.93 <= covered(found, truth) <= 0.97


def test_entity_f1_of_three_seeds_covers_93_to_97_percent() -> None:
    rng = np.random.default_rng(8)

    def table(texts: int, seeds: int, spread: float) -> Floats:
        gold_N = 1 + rng.poisson(2.0, texts)
        hard_N = 1.5 + rng.normal(0, 1, texts)
        rows = []
        for luck in rng.normal(0, spread, seeds):
            right_N = rng.binomial(gold_N, stats.logistic.cdf(hard_N + luck))
            rows.append(np.stack([right_N, gold_N, gold_N], axis=1))
        return np.stack(rows).astype(float)

    truth = float(np.mean([f1(t.sum(axis=0)) for t in table(2000, 4000, 0.2)]))
    found = (share_interval(table(100, 3, 0.2), f1) for _ in range(DRAWS))
    assert 0.93 <= covered(found, truth) <= 0.97


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_an_interval_scales_with_its_figures_unit(unit: float) -> None:
    values = np.random.default_rng(3).exponential(1.0, 80)

    def of(scale: float) -> Interval:
        table = np.stack([scale * values, np.ones(80)], axis=1)[None]
        return summed_interval(table, lambda sums: sums[..., 0] / sums[..., 1])

    one, scaled = of(1.0), of(unit)
    assert (scaled.low / unit, scaled.high / unit) == pytest.approx((one.low, one.high))


@pytest.mark.parametrize("power", [1, 2])
def test_of_many_items_the_expansion_is_what_the_draws_come_to(
    power: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "DRAWS", 20_000)
    monkeypatch.setattr(resampling, "_CELLS", 100_000_000)
    values = np.random.default_rng(power).exponential(1.0, 800) ** power
    by_draws = resampling._quantile(values, np.ones(800), values.mean())
    assert resampling._expanded(values - values.mean()) == pytest.approx(by_draws, rel=0.015)


def test_one_item_that_alone_decides_whether_there_is_a_figure_leaves_no_interval() -> None:
    table = np.array([[[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]])

    def share(sums: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.asarray(sums[..., 0] / sums[..., 1])

    found = summed_interval(table, share)
    assert found.estimate == 1.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)
