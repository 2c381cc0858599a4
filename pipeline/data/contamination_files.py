"""Texts of training and test rows, kept with a prepared Dataset for the recipes above it.

``texts-train.arrow`` and ``texts-test.arrow`` are Arrow streams, zstd inside, written and read
batch by batch: memory does not grow with the rows. The same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.errors import IntegrityError
from pipeline.data.contamination import Item, RowTexts
from pipeline.data.contamination_text import writable

TRAIN, TEST = "texts-train.arrow", "texts-test.arrow"
BATCH_ROWS = 1024

_ROWS = pa.schema(
    [
        ("id", pa.string()),
        ("recognised", pa.list_(pa.large_string())),
        # Null where it is the first of `recognised`: a document stands here once.
        ("whole", pa.large_string()),
    ]
)
_ITEMS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("context", pa.large_string()),
        ("also", pa.list_(pa.large_string())),
    ]
)


def write_texts(folder: Path, rows: Iterable[RowTexts]) -> int:
    """Writes every row that shaped the model (validation's and replayed ones too); how many."""
    return _write(folder / TRAIN, _ROWS, map(_row_cells, rows))


def read_texts(folder: Path) -> Iterator[list[RowTexts]]:
    """What write_texts wrote, at most BATCH_ROWS rows at once; no file, no rows.

    Raises:
        IntegrityError: the file cannot be read as such texts.
    """
    for columns in _read(folder / TRAIN, _ROWS):
        yield [
            RowTexts(name, tuple(recognised), recognised[0] if whole is None else whole)
            for name, recognised, whole in zip(*columns, strict=True)
        ]


def write_items(folder: Path, items: Iterable[Item]) -> int:
    """Writes the test items of a Dataset; how many. The suite's name is the reader's."""
    return _write(folder / TEST, _ITEMS, map(_item_cells, items))


def read_items(folder: Path, suite: str) -> Iterator[Item]:
    """What write_items wrote, as items of ``suite``; no file, no items.

    Raises:
        IntegrityError: the file cannot be read as such items.
    """
    for columns in _read(folder / TEST, _ITEMS):
        for name, text, context, also in zip(*columns, strict=True):
            yield Item(suite, name, text, context, tuple(also))


def _row_cells(row: RowTexts) -> tuple[Any, ...]:
    recognised = [writable(text) for text in row.recognised]
    whole = writable(row.whole)
    return writable(row.id), recognised, None if recognised[:1] == [whole] else whole


def _item_cells(item: Item) -> tuple[Any, ...]:
    also = [writable(text) for text in item.also]
    return writable(item.id), writable(item.text), writable(item.context), also


def _write(path: Path, schema: Any, rows: Iterator[Sequence[Any]]) -> int:
    count = 0
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_stream(sink, schema, options=options) as writer,
    ):
        while batch := list(islice(rows, BATCH_ROWS)):
            columns = zip(zip(*batch, strict=True), schema, strict=True)
            arrays = [pa.array(cells, field.type) for cells, field in columns]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            count += len(batch)
    return count


def _read(path: Path, schema: Any) -> Iterator[list[list[Any]]]:
    if not path.is_file():
        return
    try:
        with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as batches:
            if not batches.schema.equals(schema):
                raise IntegrityError(f"{path}: not the texts of a Dataset; prepare it again")
            for batch in batches:
                yield [column.to_pylist() for column in batch.columns]
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise IntegrityError(f"{path}: cannot be read ({reason}); prepare it again") from error
