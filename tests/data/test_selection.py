"""What becomes of each row: mixtures, conflicts among near copies, probable label errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.data.funnel import REASONS
from pipeline.data.selection import (
    CODES,
    KEPT,
    Verdicts,
    class_balance,
    exact_duplicates,
    label_errors,
    mix,
    near_duplicates,
    take_fractions,
)
from pipeline.data.shelf import Shelf, ShelfWriter

NEAR = {"action": "report", "threshold": 0.8, "seed": 0}


def shelf_of(path: Path, rows: list[tuple[str, str | None]], sources: list[int]) -> Shelf:
    writer = ShelfWriter(path / "shelf.arrow")
    texts = [text for text, _ in rows]
    known = np.array([hash(text) & 0xFFFF_FFFF for text in texts], np.uint64)
    writer.write(
        [[json.dumps({"text": text}) for text in texts], texts, [""] * len(rows), texts,
         [""] * len(rows)],
        [label for _, label in rows],
        {"ordinal": np.arange(len(rows)), "source": np.array(sources, np.int16),
         "text_hash": known, "row_hash": known, "id_hash": np.zeros(len(rows), np.uint64)},
    )  # fmt: skip
    return writer.close()


def verdicts_of(shelf: Shelf) -> Verdicts:
    return Verdicts(np.full(len(shelf), KEPT, np.int16))


def test_weights_are_the_ratio_of_what_is_kept_and_no_row_is_repeated(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, [(f"row {n}", None) for n in range(70)], [0] * 30 + [1] * 40)
    kept = []
    for _ in range(2):
        verdicts = verdicts_of(shelf)
        mix(shelf, verdicts, [{"weight": 1, "seed": 3}, {"weight": 2, "seed": 3}])
        kept.append(verdicts.live)
        assert np.bincount(shelf.source[verdicts.live]).tolist() == [20, 40]
        assert (verdicts.code == CODES["sampled out"]).sum() == 10
    assert kept[0].tolist() == kept[1].tolist()
    other = verdicts_of(shelf)
    mix(shelf, other, [{"weight": 1, "seed": 4}, {"weight": 2, "seed": 4}])
    assert other.live.tolist() != kept[0].tolist()


def test_a_source_without_a_weight_stands_beside_the_mixture(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, [(f"row {n}", None) for n in range(30)], [0] * 10 + [1] * 20)
    verdicts = verdicts_of(shelf)
    sources = [{"seed": 0}, {"weight": 5.0, "seed": 0, "fraction": 0.5}]
    take_fractions(shelf, verdicts, sources)
    mix(shelf, verdicts, sources)
    assert np.bincount(shelf.source[verdicts.live]).tolist() == [10, 10]


def test_labels_that_differ_among_near_copies_are_told_once(tmp_path: Path) -> None:
    text = "the old ship with the torn sail left the grey harbour before the storm came up"
    rows = [(text, "a"), (f"{text}s", "b"), (text, "b"), ("a gull", "a"), ("a crane", "b")]
    shelf = shelf_of(tmp_path, rows, [0] * 5)
    verdicts = verdicts_of(shelf)
    exact_duplicates(shelf, verdicts, "report")
    group = near_duplicates(shelf, verdicts, np.arange(len(shelf)), NEAR, workers=1)
    conflicts = [(found["rows"], found["labels"]) for found in verdicts.findings]
    assert conflicts == [(["0", "2"], ["a", "b"]), (["0", "1"], ["a", "b"])]
    assert verdicts.details["label conflicts"] == 2
    assert len(set(group[:3].tolist())) == 1
    assert len(set(group.tolist())) == 3
    assert len(verdicts.live) == 5


@pytest.mark.parametrize("action", ["report", "drop"])
def test_a_label_that_the_other_rows_belie_is_told_and_dropped_where_asked(
    tmp_path: Path, action: str
) -> None:
    rows: list[tuple[str, str | None]] = [
        (f"{noun} {n}", label)
        for n in range(20)
        for noun, label in (("a ship at sea", "sea"), ("a car on land", "land"))
    ]
    rows[7] = ("a ship at sea again", "land")
    rows.append(("a text without label", None))
    shelf = shelf_of(tmp_path, rows, [0] * len(rows))
    verdicts = verdicts_of(shelf)
    label_errors(shelf, verdicts, {"action": action, "folds": 5, "seed": 0})
    (found,) = verdicts.findings
    assert found["kind"] == "probable label error"
    assert (found["rows"], found["labels"]) == (["7"], ["land", "sea"])
    assert 0.5 < found["confidence"] <= 1
    assert verdicts.details["probable label errors"] == 1
    assert (verdicts.code[7] == CODES["label error"]) == (action == "drop")
    assert len(verdicts.live) == len(rows) - (action == "drop")
    assert verdicts.because == ({7: "land is probably sea"} if action == "drop" else {})


def test_rows_without_labels_are_neither_judged_nor_balanced(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, [(f"row {n}", None) for n in range(5)], [0] * 5)
    verdicts = verdicts_of(shelf)
    label_errors(shelf, verdicts, {"action": "drop", "folds": 2, "seed": 0})
    assert class_balance(shelf, verdicts, {"action": "cap"}) == {}
    assert len(verdicts.live) == 5
    assert not verdicts.findings


def test_a_cap_leaves_at_most_so_many_rows_of_a_class(tmp_path: Path) -> None:
    rows: list[tuple[str, str | None]] = [(f"row {n}", "a" if n < 9 else "b") for n in range(12)]
    shelf = shelf_of(tmp_path, rows, [0] * 12)
    verdicts = verdicts_of(shelf)
    told: dict[str, Any] = class_balance(shelf, verdicts, {"action": "cap", "max_per_class": 4})
    assert told["counts"] == {"a": 9, "b": 3}
    assert np.bincount(shelf.label[verdicts.live]).tolist() == [4, 3]
    assert (verdicts.code == CODES["balance"]).sum() == 5


def test_each_of_several_labels_is_counted_and_none_is_weighed(tmp_path: Path) -> None:
    rows: list[tuple[str, str | None]] = [(f"row {n}", ["a, b", "b", ""][n % 3]) for n in range(9)]
    shelf = shelf_of(tmp_path, rows, [0] * 9)
    verdicts = verdicts_of(shelf)
    told = class_balance(shelf, verdicts, {"action": "report"}, joined=True)
    assert told["counts"] == {"b": 6, "a": 3}
    assert len(verdicts.live) == 9
    with pytest.raises(DataError, match=r"data\.clean\.balance: weights are for rows with one"):
        class_balance(shelf, verdicts, {"action": "weights"}, joined=True)
    class_balance(shelf, verdicts, {"action": "cap", "max_per_class": 2}, joined=True)
    assert len(verdicts.live) == 6


def test_every_reason_of_a_funnel_has_a_code_of_its_own() -> None:
    assert sorted(CODES) == sorted(REASONS)
    assert len(set(CODES.values())) == len(REASONS)
