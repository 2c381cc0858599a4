"""Rows between the passes of `prepare`: on disk, with what decides over them in memory.

A row costs some 40 bytes of memory however long it is, so a million rows fit anywhere.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.data.contamination import Item, RowTexts, item_of_row, with_passages
from pipeline.data.rows import Row

NO_LABEL = -1
_DIGITS, _SLASH, _TILDE = 1, 2, 4
_COLUMNS = ("row", "text", "turns", "whole", "id")
_SCHEMA = pa.schema([(name, pa.string()) for name in _COLUMNS])


@dataclass
class Shelf:
    """The rows of one split after reading and cleaning, in the order of their sources.

    Attributes:
        path: an Arrow file with one record batch for each chunk. ``row`` is JSON; ``text``,
            ``turns`` (JSON, or empty) and ``whole`` are what the contamination gate sees of
            it, ``id`` is the id it brought, or empty.
        sizes: rows of each batch.
        ordinal: [N] number of the row within its source, from 0, refused rows counted.
        source: [N] which source it came from.
        text_hash, row_hash: [N] 64 bits of the normalised text, and of the whole row.
        label: [N] index into ``labels``, or NO_LABEL.
        group: [N] 64 bits of the grouping column, or of text_hash where none is named.
        time: [N] seconds, where a split by time was asked for.
        id_hash: [N] 64 bits of the id that the row brought, 0 where it brought none.
        id_shape: [N] what its own id looks like (digits, a slash, a tilde).
        again: [N] whether its own id is the name of another row too.
    """

    path: Path
    sizes: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    ordinal: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.int64))
    source: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.int16))
    text_hash: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.uint64))
    row_hash: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.uint64))
    label: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.int32))
    group: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.uint64))
    time: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.float64))

    id_hash: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.uint64))
    id_shape: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.uint8))
    again: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, bool))

    def __len__(self) -> int:
        return len(self.ordinal)

    @functools.cached_property
    def _table(self) -> Any:
        # Once: finding the batches of a large file again and again would grow with its square.
        return _open(self.path).read_all()

    def batches(self) -> Iterator[tuple[int, int]]:
        """(number of the batch, index of its first row)."""
        start = 0
        for number, size in enumerate(self.sizes):
            yield number, start
            start += size

    def texts(self) -> Any:
        """[N] what rows are recognised by: a memory-mapped Arrow column."""
        return self._table.column("text")

    def compared_texts(self) -> Any:
        """[N] what near copies are judged on: all that a row says, but never its label."""
        import pyarrow.compute as pc

        labelled = self.label != NO_LABEL
        if labelled.all():
            return self.texts()
        if not labelled.any():
            return self._table.column("whole")
        return pc.if_else(pa.array(labelled), self.texts(), self._table.column("whole"))

    def names(self, rows: Iterable[int]) -> list[str]:
        """Ids of rows as every file of the Dataset gives them: unique within a split."""
        own = self._table.column("id")
        return [
            row_name(own[i].as_py(), int(self.source[i]), int(self.ordinal[i]), self.again[i])
            for i in map(int, rows)
        ]

    def text_batches(self) -> Iterator[list[RowTexts]]:
        """What the contamination gate sees of the rows, batch by batch, without their ids."""
        for number in range(len(self.sizes)):
            batch = _read(self.path, number)
            columns = (batch.column(name).to_pylist() for name in ("text", "turns", "whole"))
            yield [
                RowTexts("", (text, *(json.loads(turns) if turns else ())), whole)
                for text, turns, whole in zip(*columns, strict=True)
            ]

    def items(self, suite: str, rows: Any) -> list[Item]:
        """The rows as items of an evaluation set, passages that they share apart."""
        texts, turns = (self._table.column(name) for name in ("text", "turns"))
        found = []
        for row, name in zip(rows.tolist(), self.names(rows), strict=True):
            more = turns[row].as_py()
            recognised = (texts[row].as_py(), *(json.loads(more) if more else ()))
            found.append(item_of_row(suite, name, recognised))
        return with_passages(found)

    def rows_at(self, indices: Sequence[int]) -> list[Row]:
        """The rows at ``indices`` (few)."""
        column = self._table.column("row")
        return [json.loads(column[int(index)].as_py()) for index in indices]

    def label_of(self, index: int) -> str | None:
        """The label of one row."""
        code = int(self.label[index])
        return None if code == NO_LABEL else self.labels[code]


class ShelfWriter:
    """Fills a Shelf; the arrays are joined once, at the end."""

    def __init__(self, path: Path) -> None:
        self.shelf = Shelf(path)
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, _SCHEMA)
        self._columns: dict[str, list[Any]] = {}
        self._codes: dict[str, int] = {}

    def write(
        self,
        columns: Sequence[Sequence[str]],
        labels: Sequence[str | None],
        arrays: Mapping[str, Any],
    ) -> None:
        """Adds one batch: the columns of Shelf.path in order, labels, the arrays of Shelf."""
        made = [pa.array(values, pa.string()) for values in columns]
        self._writer.write_batch(pa.record_batch(made, _SCHEMA))
        self.shelf.sizes.append(len(labels))
        codes = [NO_LABEL if v is None else self._codes.setdefault(v, len(self._codes))
                 for v in labels]  # fmt: skip
        own = {
            "label": np.array(codes, np.int32),
            "id_shape": np.array([_id_shape(given) for given in columns[-1]], np.uint8),
        }
        for name, values in {**arrays, **own}.items():
            self._columns.setdefault(name, []).append(values)

    def close(self) -> Shelf:
        """The finished shelf."""
        self._writer.close()
        self._sink.close()
        for name in list(self._columns):
            setattr(self.shelf, name, np.concatenate(self._columns.pop(name)))
        shelf = self.shelf
        # Rows that were made come last and have neither column: they are never held out.
        rest = shelf.text_hash[len(shelf.group) :]
        shelf.group = np.concatenate([shelf.group, rest]) if len(shelf.group) else shelf.text_hash
        if len(shelf.time):
            shelf.time = np.pad(shelf.time, (0, len(shelf) - len(shelf.time)))
        self.shelf.labels = list(self._codes)
        self.shelf.again = _repeated(self.shelf) | _looks_given(self.shelf)
        return self.shelf


def row_name(own: str, source: int, ordinal: int, again: bool) -> str:
    """The id of a row: its own, or its number; that of a second source says so.

    An id that stands twice (``again``) is made unique by the row's number.
    """
    name = own or str(ordinal)
    if own and again:
        name = f"{own}~{source}/{ordinal}" if source else f"{own}~{ordinal}"
    return f"{source}/{name}" if source else name


def _id_shape(own: str) -> int:
    """What an own id has in common with those that rows are given here (see _looks_given)."""
    return (_DIGITS if own.isdigit() else 0) | (_SLASH if "/" in own else 0) | (
        _TILDE if "~" in own else 0
    )  # fmt: skip


def _repeated(shelf: Shelf) -> Any:
    """Own ids that a row before them brought too."""
    found = np.zeros(len(shelf), bool)
    own = np.flatnonzero(shelf.id_hash)
    # Ids of two sources are told apart by the source's number.
    code = shelf.id_hash[own] ^ (shelf.source[own].astype(np.uint64) << np.uint64(48))
    _, first, code = np.unique(code, return_index=True, return_inverse=True)
    found[own] = first[code] != np.arange(len(own))
    return found


def _looks_given(shelf: Shelf) -> Any:
    """Own ids that could be the number of a row without one, or an id made unique."""
    shape, own = shelf.id_shape, shelf.id_hash != 0
    found = (shape & _TILDE) > 0
    if not own.all():
        found |= (shape & _DIGITS) > 0
    if shelf.source.any():
        found |= (shape & _SLASH) > 0
    return found & own


def read_batch(path: Path, number: int) -> list[Row]:
    """The rows of one batch, parsed."""
    return [json.loads(text) for text in _read(path, number).column("row").to_pylist()]


def _open(path: Path) -> Any:
    return pa.ipc.open_file(pa.memory_map(str(path)))


def _read(path: Path, number: int) -> Any:
    # Not mapped: pages of a mapped file would count as memory of every process that read them.
    with pa.OSFile(str(path)) as source:
        return pa.ipc.open_file(source).get_batch(number)
