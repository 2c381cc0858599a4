"""Paired tests against statsmodels, and what a test set could show by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import (  # type: ignore[import-untyped]
    mcnemar as oracle_mcnemar,
)
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from eval.resampling import Spread
from eval.significance import compared, holm, mcnemar, smallest_difference

PAIRS = [(0, 0), (5, 0), (12, 7), (3, 19), (40, 40), (220, 180)]


def table(only_a: int, only_b: int, same: int = 100) -> tuple[np.ndarray, np.ndarray]:
    a = np.array([[1.0] * only_a + [0.0] * only_b + [1.0] * same])
    b = np.array([[0.0] * only_a + [1.0] * only_b + [1.0] * same])
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), PAIRS)
def test_exact_is_statsmodels(only_a: int, only_b: int) -> None:
    both = [[50, only_a], [only_b, 20]]
    expected = oracle_mcnemar(both, exact=True).pvalue
    assert mcnemar(only_a, only_b)[0] == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [1, 3, 8])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.6, 0.95])
def test_p_is_5_percent_where_the_interval_ends(seeds: int, share: float) -> None:
    """Else a pair would be told apart by its p, and not by the interval beside it."""
    seed_error = share**0.5 if seeds > 1 else 0.0
    spread = Spread(0.0, (1 - share) ** 0.5, seed_error, 1.97, 400, seeds)
    assert 2 * spread.chance_of(spread.half) == pytest.approx(0.05, rel=1e-9)
    assert spread.chance_of(-spread.half) == pytest.approx(0.975)
    assert spread.chance_of(0.0) == pytest.approx(0.5)
    assert 0 <= spread.chance_of(1e6) < 1e-6


def test_p_of_one_seed_is_students() -> None:
    quantile = stats.t.ppf(0.975, 99)
    spread = Spread(0.0, 0.5, 0.0, quantile, 100, 1)
    for distance in (0.1, 0.7, 3.0):
        assert spread.chance_of(distance) == pytest.approx(stats.t.sf(2 * distance, 99))


def test_mid_p_takes_half_of_the_observed_chance_off() -> None:
    # Fagerland, Lydersen and Laake (2013), section 3: exact less the chance of what was seen.
    exact, seen = stats.binomtest(7, 19).pvalue, stats.binom.pmf(7, 19, 0.5)
    assert mcnemar(12, 7) == pytest.approx((exact, exact - seen))
    assert mcnemar(4, 0)[1] == pytest.approx(0.5**4)


def test_holm_is_statsmodels() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005, 0.2, 0.03]
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected)
    assert holm([]) == []


@pytest.mark.parametrize(("only_a", "only_b"), [(25, 10), (12, 9), (3, 30)])
def test_p_stands_below_5_percent_exactly_where_the_interval_leaves_0_out(
    only_a: int, only_b: int
) -> None:
    found = compared(*table(only_a, only_b))
    outside = not found.difference.low <= 0 <= found.difference.high
    assert (found.p < 0.05) == outside
    assert found.p == pytest.approx(found.mid_p, abs=0.03)


def test_p_of_seeds_is_students_where_items_add_nothing() -> None:
    rng = np.random.default_rng(0)
    # Many items, seeds far apart: their mean differences are all there is.
    a = (rng.random((3, 40000)) < [[0.60], [0.70], [0.80]]).astype(float)
    b = (rng.random((3, 40000)) < 0.55).astype(float)
    expected = stats.ttest_1samp((a - b).mean(axis=1), 0.0).pvalue
    assert compared(a, b).p == pytest.approx(expected, rel=0.05)


def test_non_inferiority_p_agrees_with_the_interval() -> None:
    found = compared(*table(12, 20, 300))
    assert found.chance_worse_by(-found.difference.low) == pytest.approx(0.025, abs=1e-3)
    assert found.chance_worse_by(0.2) < 1e-6
    assert found.chance_worse_by(0.0) > 0.5


def test_mcnemar_of_clusters_counts_each_once() -> None:
    a, b = table(12, 7)
    once = compared(a, b, list(range(a.shape[1])))
    names = np.repeat(np.arange(a.shape[1]), 5).tolist()
    again = compared(np.repeat(a, 5, axis=1), np.repeat(b, 5, axis=1), names)
    assert again.mcnemar == once.mcnemar == mcnemar(12, 7)[0]
    assert (again.clusters, once.clusters) == (119, 119)
    assert again.p == pytest.approx(once.p)
    assert again.smallest == pytest.approx(once.smallest)


@pytest.mark.parametrize("items", [300, 1500])
def test_smallest_difference_is_shown_by_four_of_five_test_sets(items: int) -> None:
    discordant, rng = 0.2, np.random.default_rng(items)
    found = smallest_difference(discordant, items)
    only_a = (discordant + found) / 2
    counts = rng.multinomial(items, [only_a, discordant - only_a, 1 - discordant], size=4000)
    z = (counts[:, 0] - counts[:, 1]) / np.sqrt(counts[:, 0] + counts[:, 1])
    # A little more than 0.8 with few items, by the two that are added.
    assert 0.78 <= np.mean(abs(z) > 1.96) <= 0.85


def test_smallest_difference_solves_connors_equation() -> None:
    found, items = smallest_difference(0.1, 998), 998
    share = (0.1 * items + 2) / (items + 2)
    z, power = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    needed = ((z * np.sqrt(share) + power * np.sqrt(share - found**2)) / found) ** 2
    assert needed == pytest.approx(items)


def test_smallest_difference_of_seeds_is_near_the_one_of_items_where_seeds_agree() -> None:
    rng = np.random.default_rng(1)
    a, b = ((rng.random((1, 2000)) < share).astype(float) for share in (0.7, 0.65))
    one = compared(a, b).smallest
    numbered = compared(a, b, list(range(2000))).smallest
    assert numbered == pytest.approx(one, rel=0.05)


def test_no_test_shows_more_than_everything() -> None:
    assert smallest_difference(0.5, 1) <= 1.0
    assert compared(*table(1, 0, 0)).smallest <= 1.0


def test_one_reference_stands_against_every_seed() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 2, (3, 80)).astype(float), rng.integers(0, 2, (1, 80)).astype(float)
    there, back = compared(a, b), compared(b, a)
    assert there.seeds == back.seeds == 3
    assert there.difference.estimate == -back.difference.estimate
    assert there.p == pytest.approx(back.p)
