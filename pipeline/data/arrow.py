"""Prepared rows on disk: Arrow streams, memory-mapped when read, the same bytes each time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.data.rows import Row

SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("text", pa.string()),
        ("label", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("supervised", pa.list_(pa.int8())),
    ]
)


def write_split(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows with the columns of SCHEMA."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        for start in range(0, len(rows), 1024):
            writer.write_batch(pa.RecordBatch.from_pylist(rows[start : start + 1024], SCHEMA))


def read_split(path: Path) -> Any:
    """A ``datasets.Dataset`` over the memory-mapped file."""
    from datasets import Dataset

    return Dataset.from_file(str(path))


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """All rows as dicts; an absent file has none."""
    if not path.is_file():
        return []
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_stream(source).read_all()
        rows: list[Row] = (table.select(columns) if columns else table).to_pylist()
    return rows
