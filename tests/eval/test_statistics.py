"""Intervals: closed forms, and coverage shown by simulation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from eval import resampling
from eval.metrics import token_loss
from eval.record import TextLoss
from eval.statistics import (
    CLUSTERS,
    SEEDS_AND_CLUSTERS,
    SEEDS_AND_ITEMS,
    THESE_WEIGHTS,
    Interval,
    loss_interval,
    loss_ratio_interval,
    mean_interval,
    paired_difference,
)
from pipeline.core.errors import IntegrityError

DRAWS = 1000
Floats = npt.NDArray[np.float64]


def holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def answers(
    rng: np.random.Generator, ability: float, item_DN: Floats, seeds: int, spread: float
) -> Floats:
    """[D, S, N]: probit answers with shared item difficulty and a fortune of each seed."""
    draws, items = item_DN.shape
    seed = rng.normal(0, spread, (draws, seeds, 1))
    rest = rng.normal(0, 0.6, (draws, seeds, items))
    return (ability + seed + rest + item_DN[:, None, :] > 0).astype(float)


def share(ability: float, spread: float) -> float:
    """The accuracy over all items and seeds that such answers are drawn from."""
    return float(stats.norm.cdf(ability / np.sqrt(1 + 0.36 + spread**2)))


@pytest.mark.parametrize("right", [0, 1, 37, 50])
def test_one_seed_is_wilsons_interval(right: int) -> None:
    correct = np.array([[1] * right + [0] * (50 - right)])
    expected = stats.binomtest(right, 50).proportion_ci(method="wilson")
    found = mean_interval(correct)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.covers == THESE_WEIGHTS


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand intervals in a second; fewer draws only make their width less sure."""
    monkeypatch.setattr(resampling, "DRAWS", 400)


def test_one_seed_difference_is_close_to_bonett_and_prices_interval() -> None:
    # 100 pairs, 25 that only a gets right and 10 that only b does, by their equation.
    a = np.array([[1] * 25 + [0] * 10 + [1] * 65])
    b = np.array([[0] * 25 + [1] * 10 + [1] * 65])
    p, q = 26 / 102, 11 / 102
    half = stats.norm.ppf(0.975) * np.sqrt((p + q - (p - q) ** 2) / 102)
    found = paired_difference(a, b)
    assert (found.low + found.high) / 2 == pytest.approx(p - q)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.04)
    assert found.estimate == pytest.approx(0.15)


def test_difference_is_close_to_scipys_bca_bootstrap() -> None:
    rng = np.random.default_rng(6)
    a, b = (rng.random((2, 2000)) < [[0.8], [0.7]]).astype(float)
    found = paired_difference([a], [b])
    expected = stats.bootstrap(
        (a - b,), np.mean, n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx(expected, abs=0.04 * width)


@pytest.mark.parametrize("items", [150, 600])
def test_one_seed_covers_93_to_97_percent(items: int) -> None:
    rng = np.random.default_rng(items)
    right = (rng.random((DRAWS, 1, items)) < 0.73).astype(float)
    covered = np.mean([holds(mean_interval(table), 0.73) for table in right])
    assert 0.93 <= covered <= 0.97


@pytest.mark.usefixtures("few_draws")
def test_one_seed_difference_covers_93_to_97_percent() -> None:
    rng = np.random.default_rng(8)
    item = rng.normal(0, 1, (DRAWS, 200))
    a, b = answers(rng, 0.6, item, 1, 0.0), answers(rng, 0.2, item, 1, 0.0)
    truth = share(0.6, 0.0) - share(0.2, 0.0)
    covered = np.mean([holds(paired_difference(*ab), truth) for ab in zip(a, b, strict=True)])
    assert 0.93 <= covered <= 0.97


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(("items", "most"), [(100, 0.98), (400, 0.97)])
def test_three_seeds_cover_93_to_97_percent(items: int, most: float, spread: float) -> None:
    """Of 100 items a little more, where seeds that do not differ seem to."""
    rng = np.random.default_rng(round(items + 10 * spread))
    item = rng.normal(0, 1, (DRAWS, items))
    a, b = (answers(rng, ability, item, 3, spread) for ability in (0.6, 0.2))
    truth = share(0.6, spread)
    covered = np.mean([holds(mean_interval(table), truth) for table in a])
    assert 0.93 <= covered <= most
    truth -= share(0.2, spread)
    covered = np.mean([holds(paired_difference(*ab), truth) for ab in zip(a, b, strict=True)])
    assert 0.93 <= covered <= most


def clustered(
    rng: np.random.Generator, sizes: npt.NDArray[np.intp], seeds: int
) -> tuple[Floats, Floats, list[int], float]:
    """Answers of a and b [D, S, N]: items of one cluster share most of their difficulty."""
    names = np.repeat(np.arange(len(sizes)), sizes)
    drawn = rng.normal(0, 1, (DRAWS, 2, len(sizes)))[..., names]
    own = rng.normal(0, 0.3, (DRAWS, len(names)))
    a, b = (
        answers(rng, ability, 0.9 * drawn[:, side] + own, seeds, 0.0)
        for side, ability in enumerate((0.5, 0.2))
    )
    scale = np.sqrt(1 + 0.36 + 0.81 + 0.09 - 1)
    truth = stats.norm.cdf(0.5 / scale) - stats.norm.cdf(0.2 / scale)
    return a, b, names.tolist(), float(truth)


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("equal", [True, False])
def test_clusters_cover_93_to_97_percent(seeds: int, equal: bool) -> None:
    rng = np.random.default_rng(10 * seeds + equal)
    sizes = np.full(120, 6) if equal else rng.integers(1, 12, 120)
    a, b, names, truth = clustered(rng, sizes, seeds)
    found = [paired_difference(*ab, names) for ab in zip(a, b, strict=True)]
    assert found[0].covers == (CLUSTERS if seeds == 1 else SEEDS_AND_CLUSTERS)
    assert 0.93 <= np.mean([holds(interval, truth) for interval in found]) <= 0.97
    if seeds == 1:
        # Without the clusters the same answers seem far more than they are.
        naive = [holds(paired_difference(*ab), truth) for ab in zip(a, b, strict=True)]
        assert np.mean(naive) < 0.8


@pytest.mark.usefixtures("few_draws")
def test_accuracy_over_clusters_covers_93_to_97_percent() -> None:
    rng = np.random.default_rng(1)
    a, _, names, _ = clustered(rng, np.full(120, 6), 1)
    truth = float(stats.norm.cdf(0.5 / np.sqrt(0.36 + 0.81 + 0.09)))
    covered = [holds(mean_interval(table, names), truth) for table in a]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_clusters_of_one_item_each_are_items() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 2, (3, 80)) for _ in range(2))
    alone, numbered = paired_difference(a, b), paired_difference(a, b, list(range(80)))
    assert (numbered.low, numbered.high) == pytest.approx((alone.low, alone.high), abs=2e-3)


@pytest.mark.parametrize("seeds", [1, 3])
def test_items_that_stand_there_four_times_tell_no_more_than_once(seeds: int) -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 2, (seeds, 80)) for _ in range(2))
    once = paired_difference(a, b, list(range(80)))
    names = np.repeat(np.arange(80), 4).tolist()
    again = paired_difference(np.repeat(a, 4, axis=1), np.repeat(b, 4, axis=1), names)
    assert (again.low, again.high) == pytest.approx((once.low, once.high))


def test_pooling_seeds_as_more_items_would_not_cover() -> None:
    """The test above can fail: the naive interval over S times N answers is far too short."""
    rng = np.random.default_rng(2)
    tables = answers(rng, 0.6, rng.normal(0, 1, (DRAWS, 400)), 3, 0.3)
    naive = [holds(mean_interval(table.reshape(1, -1)), share(0.6, 0.3)) for table in tables]
    assert np.mean(naive) < 0.6


def test_seeds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    steady = (rng.random((3, 300)) < np.array([[0.7], [0.7], [0.7]])).astype(float)
    shaky = (rng.random((3, 300)) < np.array([[0.5], [0.7], [0.9]])).astype(float)
    narrow, wide = mean_interval(steady), mean_interval(shaky)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert narrow.covers == SEEDS_AND_ITEMS


@pytest.mark.parametrize("seeds", [1, 3])
def test_faultless_answers_do_not_claim_certainty(seeds: int) -> None:
    found = mean_interval(np.ones((seeds, 50)))
    assert found.estimate == found.high == 1.0
    assert found.low < 0.97
    same = paired_difference(np.ones((seeds, 50)), np.ones((seeds, 50)))
    assert same.low < 0 < same.high


@pytest.mark.parametrize("items", [24, 100, 600])
def test_faultless_answers_of_three_seeds_claim_about_what_clopper_and_pearson_do(
    items: int,
) -> None:
    interval = mean_interval(np.ones((3, items)))
    exact = stats.binomtest(items, items).proportion_ci(method="exact").low
    assert 1 - interval.low == pytest.approx(1 - exact, rel=0.25)
    always = paired_difference(np.ones((3, items)), np.zeros((3, items)))
    assert always.low > 0


def test_difference_of_swapped_models_is_mirrored() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 2, (3, 80)) for _ in range(2))
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_every_seed_stands_against_one_reference() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 2, (3, 80)), rng.integers(0, 2, (1, 80))
    assert paired_difference(a, b) == paired_difference(a, np.repeat(b, 3, axis=0))


def test_answers_other_than_right_and_wrong_are_refused() -> None:
    with pytest.raises(ValueError, match="right"):
        mean_interval(np.array([[0.5, 1.0]]))
    with pytest.raises(ValueError, match="seeds by items"):
        mean_interval(np.zeros(4))


def documents(
    rng: np.random.Generator, number: int, ratio: float
) -> tuple[list[TextLoss], list[TextLoss]]:
    tokens = rng.integers(20, 200, number)
    loss_b = rng.gamma(20, 0.2, number)
    loss_a = loss_b * rng.normal(ratio, 0.15, number)

    def rows(losses: Floats) -> list[TextLoss]:
        return [
            TextLoss(str(i), float(loss * count), int(count), 3 * int(count))
            for i, (loss, count) in enumerate(zip(losses, tokens, strict=True))
        ]

    return rows(loss_a), rows(loss_b)


@pytest.mark.parametrize("number", [25, 120])
def test_loss_ratio_covers_93_to_97_percent(number: int) -> None:
    rng = np.random.default_rng(number)
    covered = [
        holds(loss_ratio_interval(*documents(rng, number, 1.1), np.random.default_rng(draw)), 1.1)
        for draw in range(1000)
    ]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_loss_ratio_is_close_to_scipys_bca_bootstrap() -> None:
    a, b = documents(np.random.default_rng(1), 200, 1.1)
    found = loss_ratio_interval(a, b, np.random.default_rng(0))
    sums = [np.array([row.nll_sum for row in losses]) for losses in (a, b)]
    expected = stats.bootstrap(
        sums,
        lambda x, y, axis: x.sum(axis=axis) / y.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=2000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = expected.high - expected.low
    assert found.estimate == pytest.approx(token_loss(a) / token_loss(b))
    assert found.low == pytest.approx(expected.low, abs=0.1 * width)
    assert found.high == pytest.approx(expected.high, abs=0.1 * width)


def test_loss_interval_holds_the_token_loss_and_repeats_with_its_seed() -> None:
    losses = documents(np.random.default_rng(1), 60, 1.0)[0]
    found = loss_interval(losses, np.random.default_rng(0))
    assert found == loss_interval(losses, np.random.default_rng(0))
    assert found.estimate == pytest.approx(token_loss(losses))
    assert found.low < found.estimate < found.high


def test_model_against_itself_has_ratio_one_exactly() -> None:
    losses = documents(np.random.default_rng(1), 60, 1.0)[0]
    found = loss_ratio_interval(losses, losses, np.random.default_rng(0))
    assert (found.low, found.estimate, found.high) == (1.0, 1.0, 1.0)


def test_one_document_tells_nothing_of_others() -> None:
    losses = [TextLoss("a", 3.0, 2, 9)]
    found = loss_interval(losses, np.random.default_rng(0))
    assert (found.low, found.estimate, found.high) == (0.0, 1.5, np.inf)


def test_other_tokens_are_refused_and_named() -> None:
    with pytest.raises(IntegrityError, match=r"document a \(2 tokens\) stands against a \(3"):
        loss_ratio_interval(
            [TextLoss("a", 1.0, 2, 9)], [TextLoss("a", 1.0, 3, 9)], np.random.default_rng(0)
        )
