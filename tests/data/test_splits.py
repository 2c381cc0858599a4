"""Validation carved from train: nothing lost, groups whole, every label left to learn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data.contamination import normalised
from pipeline.data.splits import carve_validation

Row = dict[str, Any]

ROWS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.integers(0, 12)),
    min_size=1, max_size=80,
).map(
    lambda found: [
        {"id": str(i), "text": f"text {text}", "label": label, "group": f"g{group}"}
        for i, (text, label, group) in enumerate(found)
    ]
)  # fmt: skip


def carved(rows: list[Row], share: float, by: str | None, seed: int, **more: Any) -> Any:
    """The split, or None where there is nothing to hold out."""
    try:
        return carve_validation(rows, share, by, seed, **more)
    except DataError:
        return None


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, share=st.floats(0.01, 0.49), by=st.sampled_from(["group", None]),
       seed=st.integers(0, 3), least=st.integers(0, 2))  # fmt: skip
def test_rows_are_split_and_none_is_lost(
    rows: list[Row], share: float, by: str | None, seed: int, least: int
) -> None:
    found = carved(rows, share, by, seed, least=least)
    if found is None:
        return
    train, validation = found
    assert sorted([*train, *validation], key=lambda row: int(row["id"])) == rows
    for part in found:
        assert [int(row["id"]) for row in part] == sorted(int(row["id"]) for row in part)

    def group(row: Row) -> str:
        return str(row[by]) if by else normalised(row["text"])

    assert not {group(row) for row in train} & {group(row) for row in validation}
    assert {row["label"] for row in train} == {row["label"] for row in rows}
    assert carved(rows, share, by, seed, least=least) == found


def test_split_depends_on_the_seed_and_on_nothing_else() -> None:
    rows = [{"id": str(i), "text": f"text {i}", "label": "ab"[i % 2]} for i in range(200)]
    one = carve_validation(rows, 0.1, None, 1)
    assert carve_validation([dict(row) for row in rows], 0.1, None, 1) == one
    assert carve_validation(rows, 0.1, None, 2) != one


def test_share_holds_for_every_label() -> None:
    rows = [{"id": str(i), "text": f"t{i}", "label": "a" if i < 900 else "b"} for i in range(1000)]
    _, validation = carve_validation(rows, 0.1, None, 0)
    assert Counter(row["label"] for row in validation) == {"a": 90, "b": 10}


def test_the_only_group_of_a_label_stays_in_train_though_it_holds_other_labels() -> None:
    rows = [
        {"id": "0", "text": "x", "label": "a", "group": "both"},
        {"id": "1", "text": "y", "label": "rare", "group": "both"},
        *({"id": str(i), "text": f"{i}", "label": "a", "group": f"g{i}"} for i in range(2, 12)),
    ]
    for seed in range(30):
        train, _ = carve_validation(rows, 0.4, "group", seed)
        assert "rare" in {row["label"] for row in train}


def test_rows_that_say_the_same_stay_together() -> None:
    rows = [
        {"id": str(i), "text": text}
        for i, text in enumerate(
            ["Hello, World!", "HELLO world", "ｈｅｌｌｏ ｗｏｒｌｄ", "other", "more"]
        )
    ]
    for seed in range(20):
        train, validation = carve_validation(rows, 0.4, None, seed)
        for part in (train, validation):
            assert len({row["id"] for row in part} & {"0", "1", "2"}) in {0, 3}


def test_at_least_one_of_each_label_is_held_where_asked() -> None:
    rows = [{"id": str(i), "text": f"t{i}", "label": f"l{i // 2}"} for i in range(40)]
    with pytest.raises(DataError, match="leaves nothing to validate on"):
        carve_validation(rows, 0.1, None, 0)
    _, held = carve_validation(rows, 0.1, None, 0, least=1)
    assert Counter(row["label"] for row in held) == {f"l{i}": 1 for i in range(20)}


def test_too_few_rows_say_what_to_do() -> None:
    with pytest.raises(DataError, match=r"data\.validation\.carve: 0\.1 of 1 rows .* carve more"):
        carve_validation([{"id": "0", "text": "x"}], 0.1, None, 0)


def test_a_column_that_a_later_row_lacks_is_named() -> None:
    rows = [{"id": "0", "text": "x", "group": "a"}, {"id": "1", "text": "y"}]
    with pytest.raises(DataError, match=r"validation\.by: row 1 has no column 'group' \(found id"):
        carve_validation(rows, 0.1, "group", 0)
