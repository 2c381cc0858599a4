"""Labels that are one label in several dresses, and classes too small to be judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.data.formats import label_problems

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


@pytest.mark.parametrize(
    ("counts", "alike"),
    [
        ({"Card lost": 3, "card lost": 2}, ["Card lost", "card lost"]),
        ({"card_lost": 3, "card-lost": 2, "CardLost": 2}, ["CardLost", "card-lost", "card_lost"]),
        ({"a": 3, " a": 2, "a\u200b": 2}, [" a", "a", "a\u200b"]),
        ({"ｃａｒｄ": 2, "card": 2}, ["card", "ｃａｒｄ"]),
        ({"e\u0301": 2, "\u00e9": 2}, ["e\u0301", "\u00e9"]),
        ({"kind_1": 2, "kind 1": 2}, ["kind 1", "kind_1"]),
        ({"Sci/Tech": 2, "sci-tech": 2}, ["Sci/Tech", "sci-tech"]),
        ({"-1": 2, "1": 2, "0": 2}, []),
        ({"1.0": 2, "10": 2}, []),
        ({"C": 2, "C++": 2, "C#": 2}, []),
        ({"-": 2, "_": 2, "": 2}, []),
        ({"a": 2, "b": 2}, []),
    ],
)
def test_labels_that_differ_in_dress_only_are_named(
    counts: dict[str, int], alike: list[str]
) -> None:
    lines = label_problems(counts)
    assert len(lines) == bool(alike)
    for label in alike:
        assert f"{json.dumps(label, ensure_ascii=False)} ({counts[label]} rows)" in lines[0]


def test_a_class_with_one_row_is_named() -> None:
    lines = label_problems({"b": 1, "a": 1, "c": 9})
    assert [line.split(":")[0] for line in lines] == [
        'label "a" has one row', 'label "b" has one row'
    ]  # fmt: skip
    assert label_problems({}) == []


def test_real_labels_differ_by_more_than_dress() -> None:
    files = sorted(SHARED.glob("*/train.jsonl"))
    if not files:
        pytest.skip("the shared data sets are not beside this repository")
    for file in files:
        with file.open(encoding="utf-8") as stream:
            rows = [json.loads(line) for line in stream]
        assert label_problems({row["label"]: 2 for row in rows if "label" in row}) == []
