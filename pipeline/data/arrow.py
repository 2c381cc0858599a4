"""Prepared rows on disk: Arrow streams, written as they come, memory-mapped when read.

The same rows are the same bytes, whatever the calls in which they were handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core.errors import DataError
from pipeline.data.rows import Row

SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("text", pa.string()),
        ("label", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("supervised", pa.list_(pa.int8())),
        # Of a block: the tokens of each row in it, and their ids. Null: a row by itself.
        ("lengths", pa.list_(pa.int32())),
        ("members", pa.list_(pa.string())),
        # Of a row that is asked: how many of its ids are the question, as serving makes it.
        # Of a row of `preference` it is what chosen and rejected share, of `hybrid` in every split.
        ("prompt", pa.int32()),
        # Several labels of one row, sorted; a number to predict; tags of the tokens as indices
        # into labels.json, IGNORED for special tokens.
        ("labels", pa.list_(pa.string())),
        ("value", pa.float64()),
        ("tags", pa.list_(pa.int32())),
        # Of `preference`: the prompt and the rejected answer, as input_ids are with the chosen.
        ("rejected_ids", pa.list_(pa.int32())),
        ("rejected_supervised", pa.list_(pa.int8())),
        # Rows that are judged and share a document or a phrase have the same; null: one by itself.
        ("group", pa.string()),
        # Hand-made features of the row, in the order of features.json.
        ("features", pa.list_(pa.float64())),
    ]
)
IGNORED = -100
"""The tag of a token that has none to learn (torch's ``ignore_index``)."""
_NUMBERS: Mapping[str, type[np.number[Any]]] = {
    "input_ids": np.int32,
    "supervised": np.int8,
    "lengths": np.int32,
    "tags": np.int32,
    "rejected_ids": np.int32,
    "rejected_supervised": np.int8,
    "features": np.float64,
}
_Columns = list[tuple[str, Any]]
BATCH_ROWS = 1024
# A batch ends before that many bytes too: memory stays flat with rows of any length, and the
# columns' 32-bit offsets cannot overflow.
_BATCH_BYTES = 64 * 1024**2
_CHARACTER_BYTES = 4
_TOKEN_BYTES = 5


class SplitWriter:
    """Writes rows to a file as they come; a context manager.

    Rows are dicts with the columns of SCHEMA (all but ``example_id``, ``text``, ``input_ids`` and
    ``supervised`` may be absent; further keys are not kept); token columns are lists or arrays.
    """

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self.tokens = 0
        self._path = path
        self._held: list[Row] = []
        self._bytes = 0

    def __enter__(self) -> SplitWriter:
        self._sink = pa.OSFile(str(self._path), "wb")
        self._stream = pa.ipc.new_stream(self._sink, SCHEMA)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._stream.close()
        finally:
            self._sink.close()

    def write(self, rows: Iterable[Row]) -> None:
        """Adds rows.

        Raises:
            DataError: text that is no Unicode; the row is named.
        """
        for row in rows:
            size = _bytes_of(row)
            if self._held and self._bytes + size > _BATCH_BYTES:
                self._flush()
            self._held.append(row)
            self._bytes += size
            self.rows += 1
            self.tokens += len(row["input_ids"])
            if len(self._held) == BATCH_ROWS:
                self._flush()

    def _flush(self) -> None:
        if self._held:
            self._stream.write_batch(_batch(self._held))
        self._held, self._bytes = [], 0


def write_split(path: Path, rows: Iterable[Row]) -> None:
    """Writes all rows to a new file."""
    with SplitWriter(path) as writer:
        writer.write(rows)


def _bytes_of(row: Row) -> int:
    characters = len(row["text"] or "") + len(row.get("label") or "")
    tokens = len(row["input_ids"]) + len(_of(row, "rejected_ids")) + len(_of(row, "tags"))
    return _CHARACTER_BYTES * characters + _TOKEN_BYTES * tokens


def _of(row: Row, name: str) -> Any:
    found = row.get(name)
    return () if found is None else found


def _batch(rows: Sequence[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([_column(rows, field) for field in SCHEMA], schema=SCHEMA)


def _column(rows: Sequence[Row], field: pa.Field) -> pa.Array:
    if all(row.get(field.name) is None for row in rows):
        return pa.nulls(len(rows), field.type)
    if field.name in _NUMBERS:
        return _numbers(rows, field.name, _NUMBERS[field.name])
    if pa.types.is_string(field.type):
        return _strings(rows, field.name)
    return pa.array([row.get(field.name) for row in rows], field.type)


def _strings(rows: Sequence[Row], name: str) -> pa.Array:
    try:
        return pa.array([row.get(name) for row in rows], pa.string())
    except UnicodeEncodeError as error:
        row = next(row for row in rows if row.get(name) == error.object)
        raise DataError(
            f"data: row {row['example_id']!r}: {name} is no Unicode text (a lone surrogate at "
            f"character {error.start}); mend the row or take it out"
        ) from None


def _numbers(rows: Sequence[Row], name: str, kind: type[np.number[Any]]) -> pa.Array:
    """A list column from lists or arrays; an absent list is null."""
    lists = [row.get(name) for row in rows]
    absent = np.array([values is None for values in lists])
    offsets = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum([0 if values is None else len(values) for values in lists], out=offsets[1:])
    joined = [np.zeros(0, kind)]
    joined += [np.asarray(values, dtype=kind) for values in lists if values is not None]
    return pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.array(np.concatenate(joined)),
        mask=pa.array(absent) if absent.any() else None,
    )


class Split:
    """A file's rows as a sequence: memory-mapped, a row is read when it is asked for.

    An absent file has none.
    """

    def __init__(self, path: Path) -> None:
        self._batches: list[pa.RecordBatch] = []
        if path.is_file():
            self._source = pa.memory_map(str(path))
            self._batches += pa.ipc.open_stream(self._source)
        counts = [batch.num_rows for batch in self._batches]
        # By the number of their batch, once somebody asks for a row of it.
        self._columns: list[_Columns | None] = [None] * len(self._batches)
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Row:
        """The row as ``read_rows`` gives it."""
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        place = index - int(self._starts[number])
        columns = self._columns[number]
        if columns is None:
            columns = self._columns[number] = _columns(self._batches[number])
        return {name: None if column is None else _value(column[place]) for name, column in columns}

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row; of two answers to one prompt the longer row's."""
        return self._joined(_longest)

    def segments(self) -> NDArray[np.int64]:
        """How many rows share each row's block: 1 for a row by itself."""
        return self._joined(lambda batch: np.maximum(_counts(batch.column("lengths")), 1))

    def segment_lengths(self) -> NDArray[np.int64]:
        """Tokens of every segment of every row, in order: as many as ``segments`` sums to."""
        return self._joined(_segment_lengths)

    def rejected_lengths(self) -> NDArray[np.int64]:
        """Tokens of each row's rejected answer with its prompt; 0 where there is none."""
        return self._joined(lambda batch: _counts(batch.column("rejected_ids")))

    def learned(self) -> int:
        """Tokens of all rows that are learned, of both answers where there are two."""
        return sum(
            int(batch.column(name).flatten().to_numpy().sum())
            for batch in self._batches
            for name in ("supervised", "rejected_supervised")
        )

    def _joined(self, part: Callable[[pa.RecordBatch], NDArray[np.int64]]) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *(part(batch) for batch in self._batches)])


def _columns(batch: pa.RecordBatch) -> _Columns:
    """A batch's columns by name; None for one that holds nothing: most objectives fill few."""
    pairs = zip(batch.schema.names, batch.columns, strict=True)
    return [(name, None if column.null_count == len(column) else column) for name, column in pairs]


def _counts(column: pa.ListArray) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.diff(column.offsets.to_numpy()).astype(np.int64)
    return counts


def _longest(batch: pa.RecordBatch) -> NDArray[np.int64]:
    return np.maximum(_counts(batch.column("input_ids")), _counts(batch.column("rejected_ids")))


def _segment_lengths(batch: pa.RecordBatch) -> NDArray[np.int64]:
    column = batch.column("lengths")
    counts = np.maximum(_counts(column), 1)
    alone = np.repeat(_counts(column) == 0, counts)
    found = np.repeat(_counts(batch.column("input_ids")), counts)
    found[~alone] = column.flatten().to_numpy()
    return found


def _value(scalar: Any) -> Any:
    # Numbers by way of numpy: a Python object for each through Arrow's scalars is slow.
    if (
        isinstance(scalar, pa.ListScalar)
        and scalar.is_valid
        and scalar.type.value_type != pa.string()
    ):
        return scalar.values.to_numpy().tolist()
    return scalar.as_py()


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """All rows as dicts; an absent file has none."""
    if not path.is_file():
        return []
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_stream(source).read_all()
        rows: list[Row] = (table.select(columns) if columns else table).to_pylist()
    return rows
