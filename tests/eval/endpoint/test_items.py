"""What a file of rows asks, and rows that cannot be asked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from endpoint_case import write_rows

from eval.endpoint.items import asked_of_file, read_labels
from pipeline.core.errors import DataError


def rows_of(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_become_conversations_with_the_prompt_and_the_system_text(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ["a", "b"], 2)
    asked = asked_of_file(path, suite="rows", prompt="Which? {text}", system="Be brief.")
    assert [list(item.messages) for item in asked.items] == [
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"Which? row {number} says {label}"},
        ]
        for number, label in enumerate("ab")
    ]
    assert [item.gold for item in asked.items] == ["a", "b"]
    # A channel model writes the row's own text, not the recipe's prompt.
    assert asked.items[0].text == "row 0 says a"
    assert asked.labels == ("a", "b")


def test_rows_of_one_document_belong_together(tmp_path: Path) -> None:
    rows = [{"text": f"row {n}", "label": "a", "doc_id": n // 2} for n in range(4)]
    rows.append({"text": "alone", "label": "b"})
    asked = asked_of_file(rows_of(tmp_path / "r.jsonl", *rows), suite="rows")
    assert asked.groups == {"0": "0", "1": "0", "2": "1", "3": "1"}


def test_a_conversation_is_asked_up_to_its_answer(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"},
    ]  # fmt: skip
    asked = asked_of_file(rows_of(tmp_path / "r.jsonl", {"messages": turns}), suite="rows")
    assert list(asked.items[0].messages) == turns[:3]
    assert (asked.items[0].gold, asked.labels) == ("4", None)


def test_labels_that_the_model_is_never_offered_are_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ["a", "b"], 4)
    with pytest.raises(DataError, match=r"row 1: label 'b' is none of the 2 labels.*--labels"):
        asked_of_file(path, suite="rows", labels=["a", "c"])


def test_labels_beyond_those_of_the_rows_are_offered(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ["a", "b"], 4)
    assert asked_of_file(path, suite="rows", labels=["a", "b", "c"]).labels == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no row"), ("\n\n", "holds no row"), ("{broken\n", "holds no row"),
        ('{"text": "x"}\n', "format text"),
        ('{"text": "x", "label": ["a", "b"]}\n', "several labels"),
    ],
    ids=["empty", "blank", "broken", "text", "several"],
)  # fmt: skip
def test_rows_that_cannot_be_asked_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        asked_of_file(path, suite="rows")
    assert "\n" not in str(caught.value)


def test_one_row_that_cannot_be_read_is_not_left_out_in_silence(tmp_path: Path) -> None:
    path = rows_of(tmp_path / "r.jsonl", {"text": "x", "label": "a"}, {"text": 3, "label": "a"})
    with pytest.raises(DataError, match=r"r\.jsonl:2: .*1 of 2 rows refused"):
        asked_of_file(path, suite="rows", form="classification")


@pytest.mark.parametrize("prompt", ["Which label?", "Label of {text"])
def test_a_prompt_that_names_no_field_is_refused(tmp_path: Path, prompt: str) -> None:
    path = rows_of(tmp_path / "r.jsonl", {"text": "x", "label": "a"}, {"text": "y", "label": "b"})
    with pytest.raises(DataError, match="names no field of the rows"):
        asked_of_file(path, suite="rows", prompt=prompt)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        asked_of_file(tmp_path / "nowhere.jsonl", suite="rows")


def test_labels_are_read_a_line_or_a_list(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffcard\n\n 卡片 \n")
    assert read_labels(path) == ["card", "卡片"]
    path.write_text('["b", "a"]')
    assert read_labels(path) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "words"), [("", "no labels"), ("a\na\n", "twice"), ("[1,", "JSON list")]
)
def test_a_file_of_labels_must_hold_some_each_once(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_labels(path)


def test_labels_that_look_the_same_are_named_and_refused(tmp_path: Path) -> None:
    words = r"labels 'cafe\u0301' and 'caf\xe9' look the same and differ by Unicode form only"
    path = tmp_path / "labels.txt"
    path.write_text("caf\u00e9\ncafe\u0301\nbar\n", encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(words)):
        read_labels(path)
    rows = [{"text": "x", "label": "caf\u00e9"}, {"text": "y", "label": "cafe\u0301"}]
    with pytest.raises(DataError, match=re.escape(words)):
        asked_of_file(rows_of(tmp_path / "r.jsonl", *rows), suite="rows", form="classification")
    # One in the rows, the other in the file of labels.
    with pytest.raises(DataError, match=re.escape(words)):
        asked_of_file(
            rows_of(tmp_path / "r.jsonl", rows[0]), suite="rows", form="classification",
            labels=["cafe\u0301", "bar"],
        )  # fmt: skip
    # Marks and letters that are others stay two labels.
    path.write_text("cafe\ncaf\u00e9\n", encoding="utf-8")
    assert read_labels(path) == ["cafe", "caf\u00e9"]
