"""Copies and splits through the stage itself: what is held out shares nothing with train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows
from tests.data.preparing import TEXTS, adds_up, documents, entries, names, prepare


def test_a_carved_test_split_shares_no_group_with_train(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": f"{text} {n}", "doc": n % 8} for n, text in enumerate(TEXTS * 4)]
    carve = {"carve": 0.2, "by": "doc", "time": None, "seed": 1}
    made, facts = prepare(
        tmp_path, root, {"train": rows}, carve=carve, carve_test={**carve, "seed": 2},
        contamination="report",
    )  # fmt: skip
    docs = {
        split: {int(name) % 8 for name in names(made, split)}
        for split in ("train", "validation", "test")
    }
    assert not docs["train"] & docs["validation"]
    assert not docs["train"] & docs["test"]
    assert not docs["test"] & docs["validation"]
    assert adds_up(facts)


def test_a_split_by_time_holds_out_the_latest(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "day": f"2026-01-{30 - n:02d}"} for n, text in enumerate(TEXTS)]
    made, _ = prepare(
        tmp_path, root, {"train": rows}, carve={"carve": 0.25, "by": None, "time": "day", "seed": 1}
    )  # fmt: skip
    assert names(made, "validation") == ["0", "1", "2", "3"]


def test_a_row_without_the_column_of_the_split_is_quarantined(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [{"text": text, "doc": n} for n, text in enumerate(TEXTS)]
    del rows[2]["doc"]
    with pytest.raises(DataError, match=r"train\.jsonl:3: .*doc"):
        prepare(
            tmp_path, root, {"train": rows},
            carve={"carve": 0.2, "by": "doc", "time": None, "seed": 1},
        )  # fmt: skip


def test_exact_and_near_duplicates_are_dropped_where_asked(root: Artifact, tmp_path: Path) -> None:
    text = "the old ship with the torn sail left the grey harbour before the storm came up"
    rows = documents([text, text, text.replace("storm", "storms"), "a gull", "a crane"])
    made, facts = prepare(
        tmp_path, root, {"train": rows}, clean={"duplicates": "drop", "near_duplicates": "drop"}
    )
    assert {name.partition("#")[0] for name in names(made, "train")} == {"0", "3", "4"}
    told = {entry["id"]: (entry["reason"], entry["because"]) for entry in entries(made, "dropped")}
    assert told == {"1": ("duplicate", "0"), "2": ("near-duplicate", "0")}
    assert adds_up(facts)


def test_conflicts_of_label_among_copies_are_listed(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate([*TEXTS, TEXTS[0]])]
    rows[-1]["label"] = "b"
    made, facts = prepare(tmp_path, root, {"train": rows})
    conflict = entries(made, "findings")[0]
    assert (conflict["rows"], conflict["labels"]) == (["0", "16"], ["a", "b"])
    assert facts["funnel"]["train"]["details"]["label conflicts"] == 1


def test_weights_of_classes_are_written_for_training(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "label": "a" if n < 12 else "b"} for n, text in enumerate(TEXTS)]
    made, _ = prepare(tmp_path, root, {"train": rows}, clean={"balance": "weights"})
    weights = json.loads((made.path / "class_weights.json").read_text())
    assert weights == pytest.approx({"a": 16 / 24, "b": 16 / 8})


def test_a_fraction_is_taken_and_the_rest_counted(root: Artifact, tmp_path: Path) -> None:
    rows = documents([f"{text} {n}" for n in range(5) for text in TEXTS])
    made, facts = prepare(tmp_path, root, {"train": rows}, source={"fraction": 0.5})
    assert len(names(made, "train")) == 40
    assert facts["funnel"]["train"]["sampled out"] == 40


def test_rows_that_differ_anywhere_are_no_duplicates(root: Artifact, tmp_path: Path) -> None:
    """Answers like -5 and 5 are the same letters and digits, and not the same row."""
    asked = {"role": "user", "content": "what is it"}
    answers = ("-5", "5", "1.5", "15", "x+y", "x-y")
    rows = [{"messages": [asked, {"role": "assistant", "content": a}]} for a in answers]
    made, _ = prepare(
        tmp_path, root, {"train": rows}, render="sft", source={"format": "messages"},
        clean={"duplicates": "drop"},
    )  # fmt: skip
    assert len(names(made, "train")) == 6


def test_a_source_without_rows_left_cannot_be_mixed(root: Artifact, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.train\.0: has no rows left to be mixed"):
        prepare(
            tmp_path, root, {"train": documents(["same words"] * 3)}, source={"weight": 1.0},
            clean={"min_characters": 100}, max_quarantined=1,
        )  # fmt: skip


def test_near_copies_never_stand_on_both_sides_of_a_carve(root: Artifact, tmp_path: Path) -> None:
    apart = [" ".join(f"{letter}{number}" for number in range(12)) for letter in "abcdefghijklmnop"]
    rows = documents([f"{text}{mark}" for text in apart for mark in ("", "!!", " now")])
    made, _ = prepare(
        tmp_path, root, {"train": rows}, max_length=256,
        carve={"carve": 0.2, "by": None, "time": None, "seed": 1},
    )  # fmt: skip
    sides = [{int(name) // 3 for name in names(made, split)} for split in ("train", "validation")]
    assert not sides[0] & sides[1]


def test_judged_rows_keep_what_they_share(root: Artifact, tmp_path: Path) -> None:
    """The split's own column, else a usual one; a list names no document."""
    carve = {"carve": 0.25, "by": "doc", "time": None, "seed": 1}
    train = [{"text": text, "label": "a", "doc": f"d{n // 4}"} for n, text in enumerate(TEXTS)]
    test = [
        {"text": "a heron", "label": "a", "doc_id": 7},
        {"text": "a gull", "label": "a", "doc_id": 7, "doc": "own"},
        {"text": "a crow", "label": "a", "doc_id": [7]},
    ]
    made, _ = prepare(
        tmp_path, root, {"train": train, "test": test}, {}, {"format": "classification"},
        render="classify", carve=carve,
    )  # fmt: skip
    rows = {name: read_rows(made.path / f"{name}.arrow") for name in ("validation", "test")}
    assert [row["group"] for row in rows["test"]] == ["7", "own", None]
    assert {row["group"] for row in rows["validation"]} < {"d0", "d1", "d2", "d3"}
    assert rows["validation"]
    # Some training rows are asked beside the test.
    assert {row["group"] for row in read_rows(made.path / "train.arrow")} <= {
        "d0",
        "d1",
        "d2",
        "d3",
    }
