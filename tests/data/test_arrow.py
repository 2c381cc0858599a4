"""Rows on disk: the same bytes however they come, read back without being held."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data import arrow
from pipeline.data.arrow import Split, SplitWriter, read_rows, write_split


def single(index: int, length: int) -> dict[str, Any]:
    return {
        "example_id": f"r{index}",
        "text": f"text {index} é 中",
        "label": None if index % 3 else f"label {index}",
        "input_ids": list(range(index, index + length)),
        "supervised": [i % 2 for i in range(length)],
        "lengths": None,
        "members": None,
        "prompt": index % 5 or None,
        "labels": None,
        "value": None,
        "tags": None,
        "rejected_ids": None,
        "rejected_supervised": None,
        "group": None if index % 2 else f"document {index // 4}",
        "features": None,
    }


def pair(index: int) -> dict[str, Any]:
    return {
        **single(index, 3),
        "rejected_ids": list(range(index % 6)),
        "rejected_supervised": [0] * (index % 6),
    }


def told(index: int) -> dict[str, Any]:
    return {
        **single(index, 2),
        "labels": ["a", "b"][: index % 3],
        "value": index / 7,
        "tags": [-100, index],
        "features": [0.1 * index, -1e300],
    }


def block(index: int, lengths: list[int]) -> dict[str, Any]:
    total = sum(lengths)
    return {
        **single(index, total),
        "lengths": lengths,
        "members": [f"m{index}.{i}" for i in range(len(lengths))],
    }


def many(count: int) -> list[dict[str, Any]]:
    """Rows of every kind: single, packed, pairs, without loss flags, empty."""
    made = [single(i, i % 7) if i % 3 else block(i, [1 + i % 4, 2, 3]) for i in range(count)]
    made[5::11] = [pair(i) for i in range(5, count, 11)]
    made[7::13] = [told(i) for i in range(7, count, 13)]
    made[count // 2]["supervised"] = []
    return made


def as_arrays(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "input_ids": np.array(row["input_ids"], np.int64),
        "supervised": np.array(row["supervised"], bool),
    }


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2500), max_size=4))
def test_same_bytes_whatever_the_calls(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    rows = many(2500)
    folder = tmp_path_factory.mktemp("split")
    write_split(folder / "whole", rows)
    bounds = [0, *sorted(cuts), len(rows)]
    with SplitWriter(folder / "parts") as writer:
        for start, end in pairwise(bounds):
            writer.write(as_arrays(row) if start % 2 else row for row in rows[start:end])
    assert (folder / "parts").read_bytes() == (folder / "whole").read_bytes()
    assert (writer.rows, writer.tokens) == (2500, sum(len(r["input_ids"]) for r in rows))


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = many(1500)
    write_split(tmp_path / "a", rows)
    split = Split(tmp_path / "a")
    assert read_rows(tmp_path / "a") == rows
    assert list(split) == rows
    assert [split[i] for i in (0, 1023, 1024, -1)] == [rows[i] for i in (0, 1023, 1024, -1)]
    assert read_rows(tmp_path / "a", ["label"]) == [{"label": r["label"]} for r in rows]
    for index in (1500, -1501):
        with pytest.raises(IndexError):
            split[index]


def test_datasets_reads_the_same(tmp_path: Path) -> None:
    """Oracle: a second reader of the format."""
    rows = many(1100)
    write_split(tmp_path / "a.arrow", rows)
    assert Dataset.from_file(str(tmp_path / "a.arrow")).to_list() == rows


def test_lengths_and_segments_are_those_of_the_rows(tmp_path: Path) -> None:
    rows = many(1300)
    write_split(tmp_path / "a", rows)
    split = Split(tmp_path / "a")
    assert split.lengths().tolist() == [
        max(len(row["input_ids"]), len(row["rejected_ids"] or ())) for row in rows
    ]
    assert split.segments().tolist() == [len(row["lengths"] or [0]) for row in rows]
    assert split.segment_lengths().tolist() == [
        n for row in rows for n in row["lengths"] or [len(row["input_ids"])]
    ]


def test_opening_and_measuring_allocates_little(tmp_path: Path) -> None:
    ids = np.zeros(2048, np.int32)
    with SplitWriter(tmp_path / "a") as writer:
        for i in range(3000):
            writer.write([{"example_id": str(i), "text": "", "input_ids": ids,
                           "supervised": ids}])  # fmt: skip
    before = pa.total_allocated_bytes()
    split = Split(tmp_path / "a")
    assert split.lengths().sum() == 3000 * 2048
    assert split[2999]["input_ids"] == ids.tolist()
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_batch_ends_before_its_bytes_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "_BATCH_BYTES", 5 * 100)
    with SplitWriter(tmp_path / "a") as writer:
        for length in (60, 40, 1, 300, 2):
            writer.write([{**single(0, length), "text": "", "label": None}])
    with pa.memory_map(str(tmp_path / "a")) as source:
        assert [batch.num_rows for batch in pa.ipc.open_stream(source)] == [2, 1, 1, 1]


def test_offsets_of_a_batch_cannot_overflow() -> None:
    """A batch's bytes bound what 32-bit offsets count, one row beside."""
    assert arrow._BATCH_BYTES < 2**31
    assert pa.types.is_string(arrow.SCHEMA.field("text").type)


def test_absent_and_empty_files_have_no_rows(tmp_path: Path) -> None:
    write_split(tmp_path / "empty", [])
    for name in ("absent", "empty"):
        split = Split(tmp_path / name)
        assert (len(split), list(split), read_rows(tmp_path / name)) == (0, [], [])
        assert split.lengths().tolist() == split.segment_lengths().tolist() == []


def test_lone_surrogate_names_the_row(tmp_path: Path) -> None:
    rows = [single(0, 3), {**single(1, 3), "text": "a\ud800"}]
    with pytest.raises(DataError, match="row 'r1': text is no Unicode"):
        write_split(tmp_path / "a", rows)
