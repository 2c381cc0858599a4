"""Parquet, and any other Arrow table: batches that workers turn into rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import DataError
from pipeline.data.rows import Placed, Refused, Row
from pipeline.data.sources.chunks import BATCH_ROWS, BLOCK_BYTES
from pipeline.data.sources.opening import opened
from pipeline.data.sources.source_file import SourceFile

Labels = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class ArrowBlock:
    """A batch of rows as an Arrow stream.

    Attributes:
        name: opens every place.
        first: the number of the first row, from 1.
        stream: the bytes of the Arrow IPC stream.
        labels: columns of class numbers, with the names of the classes.
    """

    name: str
    first: int
    stream: bytes
    labels: Labels = ()

    def rows(self) -> Iterator[Placed | Refused]:
        """The rows as Python values; a class label by its name, None where a row has none."""
        import pyarrow

        yield from self.placed(_python_rows(pyarrow.ipc.open_stream(self.stream).read_all()))

    def placed(self, rows: Iterable[Row | str]) -> Iterator[Placed | Refused]:
        """Rows with their places and labels; a text in place of a row is why it is refused."""
        for number, row in enumerate(rows, self.first):
            place = f"{self.name}: row {number}"
            if isinstance(row, str):
                yield Refused(place, row, "")
                continue
            for column, names in self.labels:
                value = row[column]
                row[column] = names[value] if value is not None and value >= 0 else None
            yield Placed(place, row)


def _python_rows(table: Any) -> Iterator[Row | str]:
    try:
        yield from table.to_pylist()
    except (ValueError, OverflowError, ArithmeticError):
        # One value that Python cannot hold must not take its neighbours with it.
        for index in range(table.num_rows):
            try:
                yield table.slice(index, 1).to_pylist()[0]
            except (ValueError, OverflowError, ArithmeticError) as error:
                yield f"a value that cannot be read ({str(error).splitlines()[0][:120]})"


def parquet_chunks(file: SourceFile, place: str) -> Iterator[ArrowBlock]:
    """A Parquet file batch by batch, its pages read as they are needed.

    Raises:
        DataError: the file cannot be read or is damaged, or a column name stands twice.
    """
    from pyarrow import parquet

    first = 1
    with opened(file, place) as raw, _whole(file, place):
        # Without these two, a whole row group (often the whole file) would be held.
        table = parquet.ParquetFile(
            raw, pre_buffer=False, buffer_size=1 << 16, page_checksum_verification=True
        )
        names = table.schema_arrow.names
        if len(set(names)) < len(names):
            raise DataError(f"{place}: {file.shown}: a column name stands twice; rename one")
        size = batch_rows(_bytes_of(table.metadata), table.metadata.num_rows)
        # Threads of its own would be lost where the process forks.
        for batch in table.iter_batches(batch_size=size, use_threads=False):
            if batch.num_rows:
                yield ArrowBlock(file.shown, first, arrow_stream([batch], batch.schema))
                first += batch.num_rows


def batch_rows(size_bytes: int, rows: int) -> int:
    """How many rows make about BLOCK_BYTES, at most BATCH_ROWS."""
    return max(1, min(BATCH_ROWS, BLOCK_BYTES * rows // max(1, size_bytes)))


def arrow_stream(batches: list[Any], schema: Any) -> bytes:
    """Batches as the bytes of an Arrow IPC stream: of a slice, only what is in it."""
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def _bytes_of(metadata: Any) -> int:
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    return sum(group.total_byte_size for group in groups)


@contextmanager
def _whole(file: SourceFile, place: str) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        lines = str(error).strip().splitlines()
        reason = lines[0][:200] if lines else type(error).__name__
        raise DataError(
            f"{place}: {file.shown}: damaged or not Parquet ({reason}); write it again"
        ) from None
