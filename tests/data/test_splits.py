"""Held-out rows: whole groups, every label on both sides, or the latest by time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from pipeline.core.errors import DataError
from pipeline.data.selection import take_fractions
from pipeline.data.splits import hold_out
from pipeline.data.strata import single_labels, strata
from tests.data.test_selection import shelf_of, verdicts_of

NO_TIME = None


def held(label: list[int], group: list[int], share: float = 0.2, **more: Any) -> Any:
    return hold_out(
        "data.validation",
        share,
        label=np.array(label, np.int32),
        group=np.array(group, np.uint64),
        time=more.pop("time", None),
        seed=more.pop("seed", 1),
        **more,
    )


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=4, max_size=80),
    st.integers(0, 5),
)
def test_no_group_stands_on_both_sides_and_no_label_is_lost(
    rows: list[tuple[int, int]], seed: int
) -> None:
    label, group = [list(part) for part in zip(*rows, strict=True)]
    try:
        mask = held(label, group, seed=seed)
    except DataError:
        return
    inside = {g for g, m in zip(group, mask, strict=True) if m}
    outside = {g for g, m in zip(group, mask, strict=True) if not m}
    assert not inside & outside
    assert {lab for lab, m in zip(label, mask, strict=True) if not m} == set(label)


def test_shares_are_those_of_scikit_learn_within_one_row() -> None:
    label = [0] * 100 + [1] * 50 + [2] * 10
    mask = held(label, list(range(160)))
    split = StratifiedShuffleSplit(n_splits=1, test_size=0.2, random_state=0)
    _, other = next(split.split(label, label))
    for value in (0, 1, 2):
        ours = sum(1 for lab, m in zip(label, mask, strict=True) if m and lab == value)
        theirs = sum(1 for index in other if label[index] == value)
        assert abs(ours - theirs) <= 1


def test_the_same_seed_holds_out_the_same_rows_and_another_does_not() -> None:
    label, group = [0] * 200, list(range(200))
    assert (held(label, group, seed=3) == held(label, group, seed=3)).all()
    assert (held(label, group, seed=3) != held(label, group, seed=4)).any()


def test_hashes_of_groups_do_not_decide() -> None:
    """Only which rows share a group counts: another hash function holds out the same rows."""
    label, group = [0] * 50, [n // 2 for n in range(50)]
    assert (held(label, group) == held(label, [997 - 13 * g for g in group])).all()


def test_a_split_by_time_never_trains_on_the_future() -> None:
    time = np.array([5.0, 1.0, 9.0, 3.0, 9.0, 7.0])
    mask = held([0] * 6, list(range(6)), 0.3, time=time)
    assert time[mask].min() > time[~mask].max()
    assert mask.tolist() == [False, False, True, False, True, False]


def test_rows_of_one_moment_stay_together() -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        held([0] * 4, list(range(4)), 0.25, time=np.zeros(4))


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_rows_are_refused_with_the_remedy(rows: int) -> None:
    with pytest.raises(DataError, match=r"data\.validation\.carve: 0\.1 of \d rows leaves nothing"):
        held([0] * rows, [0] * rows, 0.1)


def test_a_group_of_two_labels_keeps_both_in_train() -> None:
    label = [0, 1, 0, 1, 1]
    mask = held(label, [7, 7, 8, 9, 10], 0.45)
    assert {lab for lab, m in zip(label, mask, strict=True) if not m} == {0, 1}


@given(
    st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=4, max_size=60),
    st.integers(0, 5),
)
def test_no_label_of_several_is_held_out_whole(sets: list[set[int]], seed: int) -> None:
    label = [min(labels, default=-1) for labels in sets]
    group = [n // 2 if n % 3 else n for n in range(len(sets))]
    try:
        mask = held(label, group, seed=seed, sets=sets)
    except DataError:
        return
    left = set[int]().union(*(labels for labels, m in zip(sets, mask, strict=True) if not m))
    assert left == set[int]().union(*sets)


def test_combinations_that_stand_once_are_held_out_by_their_rarest_label(tmp_path: Path) -> None:
    """Each row has labels of its own: by combination not one could be held out."""
    rows: list[tuple[str, str | None]] = [
        (f"row {n}", ", ".join(sorted({f"l{n % 3}", f"m{n % 7}", f"n{n % 11}"})))
        for n in range(231)
    ]
    shelf = shelf_of(tmp_path, rows, [0] * len(rows))
    live = np.arange(len(rows))
    label, sets = strata(shelf, live)
    assert (np.bincount(label) == 21).sum() == 11
    mask = held(label.tolist(), list(range(231)), 0.2, sets=sets)
    assert 40 <= mask.sum() <= 55
    counts = single_labels(shelf, live)
    assert counts == {**{f"l{n}": 77 for n in range(3)}, **{f"m{n}": 33 for n in range(7)},
                      **{f"n{n}": 21 for n in range(11)}}  # fmt: skip
    verdicts = verdicts_of(shelf)
    take_fractions(shelf, verdicts, [{"fraction": 0.5, "seed": 1}], joined=True)
    assert len(verdicts.live) == 11 * 10
