"""Rows of a source: each fits its format, or the error names its file, line and value."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows, write_split
from pipeline.data.rows import fill, read_source, take_fraction

Read = Callable[..., list[dict[str, Any]]]
GOOD: list[dict[str, Any]] = [{"text": "one", "label": "a"}, {"text": "two, or more", "label": "b"}]


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def rows(name: str, content: str | bytes, form: str = "classification", **config: Any) -> Any:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_source({"format": form, "seed": 0, **config}, path, None, "data.train")

    return rows


@pytest.fixture
def refused(read: Read) -> Callable[..., str]:
    def message(*given: Any, **config: Any) -> str:
        with pytest.raises(DataError) as caught:
            read(*given, **config)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", lines(GOOD)),
        ("x.jsonl", "\ufeff" + lines(GOOD).replace("\n", "\r\n")),
        ("x.json", json.dumps(GOOD)),
        ("x.csv", table(GOOD)),
        ("x.CSV", "\ufeff" + table(GOOD).replace("\r\n", "\n\n")),
        ("x.tsv", table(GOOD, "\t")),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(read: Read, name: str, content: str) -> None:
    assert read(name, content) == [{**row, "id": str(i)} for i, row in enumerate(GOOD)]


def test_parquet_gives_the_same_rows(read: Read, tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(GOOD), tmp_path / "other.parquet")
    content = (tmp_path / "other.parquet").read_bytes()
    assert [row["text"] for row in read("x.parquet", content)] == ["one", "two, or more"]


def test_plain_text_is_documents_between_blank_lines(read: Read) -> None:
    rows = read("x.txt", "one\nstill one\n\n \n\ntwo\n", "text")
    assert [row["text"] for row in rows] == ["one\nstill one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.jsonl", "", ["holds no rows", "point data.train at a file with rows"]),
        ("x.jsonl", "\n  \n", ["holds no rows"]),
        ("x.json", "[]", ["holds no rows"]),
        ("x.csv", "text,label\n", ["holds no rows"]),
        ("x.csv", "", ["holds no rows"]),
        ("x.jsonl", lines(GOOD) + "\n{", ["x.jsonl:4: ", "not JSON", "mend or remove"]),
        ("x.jsonl", "[1]\n", ["x.jsonl:1: [1]", "write one a line"]),
        ("x.jsonl", "[" * 100_000, ["x.jsonl:1: ", "not JSON"]),
        ("x.jsonl", '{"text": "x", "label": ' + "9" * 5000 + "}", ["x.jsonl:1: ", "not JSON"]),
        ("x.jsonl", b"\x1f\x8b\x08\x00", ["x.jsonl: ", "not UTF-8", "save it so"]),
        ("x.json", b"\xff\xfe[]", ["x.json: ", "not UTF-8", "save it so"]),
        ("x.json", "{}", ["x.json: ", "not a list of objects", "use that or .jsonl"]),
        ("x.csv", table(GOOD).encode("utf-16"), ["x.csv: ", "not UTF-8"]),
        ("x.csv", "text,label\na,b\nc,d,e\n", ["x.csv:3: ", "2 columns", "3 here", "quote the"]),
        ("x.csv", "text,label\n\na\n", ["x.csv:3: ", "2 columns", "1 here"]),
        ("x.csv", 'text,label\na,b\n"open,b\n', ["x.csv:3: ", "unexpected end", "mend that line"]),
        ("x.csv", "text,text,label\na,b,c\n", ["x.csv:1: ", "column name stands twice"]),
        ("x.csv", "text;label\na;b\n", ["x.csv:2: ", "no field 'text'", "text;label"]),
        ("x.parquet", "nope", ["x.parquet: ", "not Parquet"]),
        ("x.xlsx", "nope", ["x.xlsx: ", ".xlsx is not read; use one of .csv, "]),
        ("x", "nope", ["x: ", "no suffix is not read"]),
        ("x.jsonl", lines([{"txt": "a", "label": "b"}]), ["x.jsonl:1: ", "label, txt", "columns:"]),
        ("x.jsonl", lines([*GOOD, {"text": "", "label": "b"}]), ["x.jsonl:3: ", 'text is ""']),
        ("x.jsonl", lines([{"text": " \u00a0", "label": "b"}]), ["x.jsonl:1: ", "not empty"]),
        ("x.jsonl", lines([{"text": "a", "label": 1.5}]), ["x.jsonl:1: ", "label is 1.5"]),
        ("x.jsonl", '{"text": "a", "label": NaN}', ["x.jsonl:1: ", "label is NaN"]),
        ("x.jsonl", lines([{"text": "a", "label": ["b"]}]), ["x.jsonl:1: ", 'label is ["b"]']),
        ("x.jsonl", '{"text": "\\ud800", "label": "a"}', ["x.jsonl:1: ", "text is", "\\ud800"]),
        ("x.jsonl", lines([{**row, "id": 7} for row in GOOD]), ["id '7' stands twice", "unique"]),
    ],
)  # fmt: skip
def test_bad_rows_are_named(
    refused: Callable[..., str], name: str, content: str | bytes, words: list[str]
) -> None:
    message = refused(name, content)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("hello", "must be a list"),
        ([], "not empty"),
        ([3], "and it is 3"),
        ([{"role": "bot", "content": "x"}], "one of assistant, system, user"),
        ([{"role": ["user"], "content": "x"}], "one of assistant, system, user"),
        ([{"role": "user", "content": None}], "text content"),
        ([{"role": "user", "content": "x"}], "nothing to learn"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}], "nothing to"),
    ],
)
def test_bad_messages_are_named(refused: Callable[..., str], messages: Any, words: str) -> None:
    message = refused("x.jsonl", lines([{"messages": messages}]), "messages")
    assert "x.jsonl:1: " in message
    assert words in message


def test_a_file_that_went_away_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: No such file .*; check the path"):
        read_source({"format": "text"}, tmp_path / "gone.jsonl", None, "data.train")


def test_columns_are_mapped_and_may_be_swapped(read: Read) -> None:
    content = lines([{"text": "a", "label": "b", "more": "c"}])
    rows = read("x.jsonl", content, columns={"text": "label", "label": "text"})
    assert rows == [{"text": "b", "label": "a", "more": "c", "id": "0"}]


def test_a_column_that_no_row_has_is_named(refused: Callable[..., str]) -> None:
    message = refused("x.jsonl", lines(GOOD), columns={"context": "ctx"})
    assert "columns: context: 'ctx' is no column of any row (found label, text)" in message


def test_whole_numbers_are_labels(read: Read) -> None:
    assert read("x.jsonl", lines([{"text": "a", "label": 3}]))[0]["label"] == "3"


def test_ids_of_the_rows_are_kept_and_absent_ones_counted(read: Read) -> None:
    rows = [{**GOOD[0], "id": "mine"}, {**GOOD[1], "id": None}]
    assert [row["id"] for row in read("x.jsonl", lines(rows))] == ["mine", "1"]


def test_a_long_field_is_read_whole(read: Read) -> None:
    text = "word " * 100_000
    assert read("x.csv", table([{"text": text, "label": "a"}]))[0]["text"] == text


def test_prompt_fills_fields_and_evaluates_nothing(read: Read, refused: Callable[..., str]) -> None:
    content = lines([{"text": "{label}", "label": "a"}])
    rows = read("x.jsonl", content, prompt="Say {text}, {label} and {0!r:>9} {x.y}.")
    assert rows[0]["text"] == "Say {label}, a and {0!r:>9} {x.y}."
    assert "prompt names {other}" in refused("x.jsonl", content, prompt="{other}")
    assert fill("no fields", {}, "here") == "no fields"


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=60),
    fraction=st.floats(0.01, 1.0),
    seed=st.integers(0, 5),
)
def test_a_fraction_keeps_every_label_and_the_order(
    labels: list[str], fraction: float, seed: int
) -> None:
    rows = [{"id": str(i), "label": label} for i, label in enumerate(labels)]
    kept = take_fraction(rows, fraction, seed)
    assert {row["label"] for row in kept} == set(labels)
    assert [int(row["id"]) for row in kept] == sorted(int(row["id"]) for row in kept)
    assert take_fraction(rows, fraction, seed) == kept
    for label in set(labels):
        count = labels.count(label)
        assert abs(sum(r["label"] == label for r in kept) - fraction * count) <= 1


def test_prepared_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        {"example_id": str(i), "text": "é" * i, "label": None if i % 2 else "a",
         "input_ids": list(range(i)), "supervised": [i % 2] * i}
        for i in range(3000)
    ]  # fmt: skip
    write_split(tmp_path / "one.arrow", rows)
    write_split(tmp_path / "two.arrow", rows)
    assert read_rows(tmp_path / "one.arrow") == rows
    assert (tmp_path / "one.arrow").read_bytes() == (tmp_path / "two.arrow").read_bytes()
    assert read_rows(tmp_path / "one.arrow", ["label"])[:2] == [{"label": "a"}, {"label": None}]
    assert read_rows(tmp_path / "absent.arrow") == []
