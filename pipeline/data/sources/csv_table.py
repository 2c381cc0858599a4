"""CSV and TSV (RFC 4180): records by their lines, so that one bad record is refused alone."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from pipeline.core.errors import DataError
from pipeline.data.rows import Placed, Refused, RowProblem
from pipeline.data.sources.chunks import LONGEST_BYTES, RowList, excerpt, in_lists, mebibytes
from pipeline.data.sources.lines import TextLine, text_lines, text_problem
from pipeline.data.sources.opening import text_blocks
from pipeline.data.sources.source_file import SourceFile


def csv_chunks(file: SourceFile, place: str, longest: int = LONGEST_BYTES) -> Iterator[RowList]:
    """A table whose first record names the columns.

    Raises:
        DataError: the file or its header cannot be read, or a column name stands twice.
    """
    delimiter = "\t" if file.kind == ".tsv" else ","
    lines = text_lines(text_blocks(file, place), file.shown, longest)
    return in_lists(csv_rows(lines, file.shown, delimiter, place, longest))


def csv_rows(
    lines: Iterator[TextLine | Refused],
    name: str,
    delimiter: str,
    place: str,
    longest: int = LONGEST_BYTES,
) -> Iterator[Placed | Refused]:
    """Records as rows, each at the number of its first line.

    A record that cannot be parsed is refused line by line: how many rows a quote that is never
    closed has swallowed, nobody knows, and to guess would make rows that nobody wrote.

    Raises:
        DataError: see ``csv_chunks``.
    """
    # For the process; the records' own bound is ours, this one would cut at 131,072.
    csv.field_size_limit(max(longest, csv.field_size_limit()))
    feed = _Feed(lines, name, longest)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header = None
    while True:
        feed.begin()
        try:
            record = next(reader)
        except StopIteration:
            yield from feed.refused("")
            return
        except (csv.Error, RowProblem) as error:
            refused = list(feed.refused(str(error)))
            if header is None:
                raise DataError(
                    f"{place}: {refused[0].place}: the header cannot be read "
                    f"({refused[0].reason}); mend it"
                ) from None
            yield from refused
            continue
        if header is None and record:
            header = _header(record, f"{place}: {name}:{feed.first}")
        elif header is not None and record:
            yield _row(header, record, f"{name}:{feed.first}", feed.text())


def _header(record: list[str], place: str) -> list[str]:
    problem = text_problem("".join(record))
    if problem is not None:
        raise DataError(f"{place}: the header {problem}; mend it")
    twice = [column for column in record if record.count(column) > 1]
    if twice:
        raise DataError(f"{place}: column {twice[0][:40]!r} stands twice; rename one")
    return record


def _row(header: list[str], record: list[str], place: str, text: str) -> Placed | Refused:
    problem = text_problem(text)
    if problem is None and len(record) != len(header):
        problem = (
            f"{len(header)} columns in the header, {len(record)} here; "
            "quote a field that holds a delimiter"
        )
    if problem is not None:
        return Refused(place, problem, excerpt(text))
    return Placed(place, dict(zip(header, record, strict=True)))


class _Feed:
    """The lines of the record that is being read, and what of them was refused."""

    def __init__(self, lines: Iterator[TextLine | Refused], name: str, longest: int) -> None:
        self._lines = lines
        self._longest = longest
        self._taken: list[TextLine] = []
        self._bad: Refused | None = None
        self._name = name
        self._characters = 0

    def begin(self) -> None:
        """Forgets the lines of the record before."""
        self._taken, self._bad, self._characters = [], None, 0

    @property
    def first(self) -> int:
        """The number of the record's first line."""
        return self._taken[0].number

    def text(self) -> str:
        """The record as it stands."""
        return "".join(line.text for line in self._taken)

    def refused(self, reason: str) -> Iterator[Refused]:
        """Every line of a record that cannot be read."""
        for line in self._taken:
            within = "" if line is self._taken[0] else f" in a record from line {self.first} on"
            yield Refused(f"{self._name}:{line.number}", f"{reason}{within}", excerpt(line.text))
        if self._bad is not None:
            yield self._bad

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if isinstance(line, Refused):
            self._bad = line
            raise RowProblem("stands before a line that cannot be read")
        self._taken.append(line)
        self._characters += len(line.text)
        if self._characters > self._longest:
            raise RowProblem(f"a record longer than {mebibytes(self._longest)}: an open quote?")
        return line.text
