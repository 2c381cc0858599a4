"""Pieces of a source: their bounds, and those that hold rows already parsed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.data.rows import EXCERPT, Placed, Refused, Row

BLOCK_BYTES = 1 << 20
BATCH_ROWS = 1000
# A line, a CSV record, an item of a JSON list or a text document that is longer is refused:
# without a bound, one damaged file would take all memory.
LONGEST_BYTES = 1 << 24
# With these words opens the reason of a Refused that stands for an unknown number of rows.
BROKEN_OFF = "broken off"


class BrokenOff(Exception):
    """A file whose rest cannot be read. It never leaves ``pipeline.data.sources``."""


@dataclass(frozen=True, slots=True)
class RowList:
    """Rows that the parent has parsed."""

    items: tuple[Placed | Refused, ...]

    def rows(self) -> Iterator[Placed | Refused]:
        """The rows in order."""
        return iter(self.items)


def in_lists(rows: Iterable[Placed | Refused]) -> Iterator[RowList]:
    """Rows in pieces of at most BATCH_ROWS, or of about BLOCK_BYTES characters."""
    held: list[Placed | Refused] = []
    characters = 0
    for row in rows:
        held.append(row)
        characters += _characters(row.row) if isinstance(row, Placed) else EXCERPT
        if len(held) >= BATCH_ROWS or characters >= BLOCK_BYTES:
            yield RowList(tuple(held))
            held, characters = [], 0
    if held:
        yield RowList(tuple(held))


def _characters(row: Row) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str))


def excerpt(raw: bytes | str) -> str:
    """The beginning of what stands there, as text that UTF-8 can hold."""
    if isinstance(raw, str):
        raw = raw[:EXCERPT].encode("utf-8", errors="surrogatepass")
    # Four bytes a character at most: enough to fill the excerpt.
    return raw[: EXCERPT * 4].decode("utf-8", errors="replace").strip()[:EXCERPT]


def mebibytes(size_bytes: int) -> str:
    """A bound as a reader says it."""
    return f"{size_bytes / (1 << 20):g} MiB" if size_bytes >= 1 << 20 else f"{size_bytes} bytes"
