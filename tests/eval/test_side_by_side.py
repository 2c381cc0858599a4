"""Two models on the same items: seeds paired, items the same, clusters counted once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from eval.record import Prediction
from eval.side_by_side import Side, side_by_side
from pipeline.core.errors import IntegrityError


def answers(right: list[bool], start: int = 0) -> list[Prediction]:
    return [
        Prediction(f"i{number:03d}", "yes", "yes" if one else None, None, "", 0.0, 1, 1)
        for number, one in enumerate(right, start)
    ]


def side(name: str, seeds: Mapping[int, list[bool]], **more: object) -> Side:
    return Side(name, {seed: answers(right) for seed, right in seeds.items()}, **more)  # type: ignore[arg-type]


def drawn(share: float, seed: int, items: int = 200) -> list[bool]:
    found: list[bool] = (np.random.default_rng(seed).random(items) < share).tolist()
    return found


def test_mcnemar_is_that_of_statsmodels() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    a, b = drawn(0.7, 1), drawn(0.6, 2)
    found = side_by_side(side("a", {0: a}), side("b", {0: b}), "test")
    table = [[0, 0], [0, 0]]
    for one, other in zip(a, b, strict=True):
        table[1 - one][1 - other] += 1
    assert found["mcnemar_p"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    right = found["right"]
    assert [[right["both"], right["only_a"]], [right["only_b"], right["neither"]]] == table
    assert found["difference"]["estimate"] == pytest.approx((sum(a) - sum(b)) / 200)


def test_only_seeds_that_both_have_are_paired() -> None:
    a = side("a", {1: drawn(0.7, 1), 2: drawn(0.7, 2), 3: drawn(0.7, 3), 9: drawn(0.1, 9)})
    b = side("b", {1: drawn(0.6, 4), 2: drawn(0.6, 5), 3: drawn(0.6, 6)})
    found = side_by_side(a, b, "test")
    assert found["seeds"] == 3
    assert found["difference"]["covers"] == "seeds and items"
    assert found["accuracy"]["a"]["estimate"] > 0.6
    assert "3 paired seeds" in found["words"]


def test_a_folder_without_a_seed_is_never_paired_by_it() -> None:
    a = side("a", {0: drawn(0.7, 1), 1: drawn(0.7, 2)})
    b = side("b", {0: drawn(0.6, 4)}, known=False)
    found = side_by_side(a, b, "test")
    assert found["seeds"] == 1
    assert "for these weights" in found["words"]


def test_items_of_one_group_count_as_one() -> None:
    right = drawn(0.7, 1)
    twin = [one for one in right[:100] for _ in range(2)]
    other = [one for one in drawn(0.6, 2)[:100] for _ in range(2)]
    groups = {f"i{number:03d}": f"g{number // 2}" for number in range(200)}
    alone = side_by_side(side("a", {0: twin}), side("b", {0: other}), "test")
    together = side_by_side(
        side("a", {0: twin}, groups=groups), side("b", {0: other}, groups=groups), "test"
    )
    assert together["clusters"] == 100

    def width(found: Mapping[str, Mapping[str, float]]) -> float:
        return found["difference"]["high"] - found["difference"]["low"]

    assert width(together) > 1.3 * width(alone)


@pytest.mark.parametrize("what", ["fewer", "other gold", "twice"])
def test_other_items_are_refused_with_the_suite(what: str) -> None:
    rows = answers(drawn(0.7, 1, 10))
    other = {
        "fewer": rows[:9],
        "other gold": [Prediction("i000", "no", "no", None, "", 0.0, 1, 1), *rows[1:]],
        "twice": [*rows, rows[0]],
    }[what]
    with pytest.raises(IntegrityError, match=r"suite test: a was asked 10 items.*not the same"):
        side_by_side(Side("a", {0: rows}), Side("b", {0: other}), "test")


@pytest.mark.parametrize("scored", [True, False])
def test_other_labels_are_refused_by_name(scored: bool) -> None:
    """Who chooses among two of five labels is right more often."""
    sides = []
    for name, labels in (("a", ["no", "yes"]), ("b", ["maybe", "no", "yes"])):
        scores = {label: -float(n + 1) for n, label in enumerate(labels)} if scored else None
        rows = [replace(row, scores=scores) for row in answers(drawn(0.7, 1, 10))]
        sides.append(Side(name, {0: rows}, labels=None if scored else labels))
    with pytest.raises(
        IntegrityError, match="suite test: a chose among 2 labels and b among 3 \\('maybe' was"
    ):
        side_by_side(*sides, "test")
    side_by_side(sides[0], sides[0], "test")
    # Free writing of which nobody tells the labels stands against anything.
    side_by_side(sides[0], replace(sides[1], seeds={0: answers([True] * 10)}, labels=None), "test")


def test_the_smallest_difference_is_told_as_what_it_is() -> None:
    """It is shown in 80 % of test sets, not in each: simulated at that very difference."""
    one, other = drawn(0.7, 1, 400), drawn(0.6, 2, 400)
    found = side_by_side(side("a", {0: one}), side("b", {0: other}), "test")
    least = found["smallest_difference"]
    assert f"of such test sets 80 % would show a true difference of {least:.3f}" in found["words"]
    rng, apart = np.random.default_rng(3), np.mean(np.array(one) != np.array(other))
    up, down = (apart + least) / 2, (apart - least) / 2
    draws = rng.choice([1, -1, 0], p=[up, down, 1 - up - down], size=(2000, 400))
    error = draws.std(axis=1) / np.sqrt(400)
    assert np.mean(draws.mean(axis=1) > 1.96 * error) == pytest.approx(0.8, abs=0.04)


def test_equal_models_are_undecided() -> None:
    right = drawn(0.7, 1)
    found = side_by_side(side("a", {0: right}), side("b", {0: right}), "test")
    assert found["mcnemar_p"] == 1.0
    assert found["apart"] == []
    assert "undecided" in found["words"]
