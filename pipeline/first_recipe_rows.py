"""The rows that `gradus init` looks at: read, their format found, split into train and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import DataError, UserError
from pipeline.core.recipe import shown
from pipeline.core.schema_data import Data
from pipeline.data.detection import Detected, detect
from pipeline.data.formats import converter
from pipeline.data.rows import Placed, Refused, Row, RowProblem, labels_of, row_text
from pipeline.data.shingles import letters_and_digits
from pipeline.data.strata import by_rarest

FEWEST_ROWS = 20
_SEED = 1
_TEST_SHARE = 0.1
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.49)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Seen:
    """What a look at the data gave.

    Attributes:
        train, test: rows as they stand in the file.
        carve: the share of train that leaves something to validate on.
        canonical: all of them, as their format reads them.
        left_out: rows that cannot be read, or that do not fit the format.
    """

    data: Path
    found: Detected
    train: list[Row]
    test: list[Row]
    canonical: list[Row]
    carve: float
    left_out: list[Refused]


def look(data: Path) -> Seen:
    """Reads a file, finds its format and holds a test out.

    Raises:
        UserError: too few rows, no format, or rows that cannot be split.
    """
    place = f"--data {shown(data)}"
    placed, left_out = _read(data, place)
    read = len(placed) + len(left_out)
    _require_few(left_out, read)
    _require_some(len(placed), place)
    found = detect([row.row for row in placed], place)
    if found.form == "instructions":
        raise UserError(
            f"{place}: its rows say how an answer is checked and hold none to learn from; name "
            "rows with answers, and these under evaluate.suites"
        )
    kept, canonical, refused = _converted(placed, found)
    left_out += refused
    _require_few(left_out, read, f"read as {found.form}, ")
    _require_some(len(kept), place)
    classes = [labels_of(row) or [] for row in canonical]
    counted = Counter(one for row in classes for one in row)
    labels = _Labels(*by_rarest(classes, counted))
    group = _groups(kept, canonical, found.by)
    held = _held_out(labels, group, found.by, place)
    ordered = dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
    return Seen(
        data,
        replace(found, labels=ordered),
        [row for row, is_test in zip(kept, held, strict=True) if not is_test],
        [row for row, is_test in zip(kept, held, strict=True) if is_test],
        canonical,
        _carve(labels.of(~held), group[~held], place),
        left_out,
    )


def _read(data: Path, place: str) -> tuple[list[Placed], list[Refused]]:
    from pipeline.data.sources import read_chunks

    placed: list[Placed] = []
    refused: list[Refused] = []
    for chunk in read_chunks(str(data), place=place):
        for row in chunk.rows():
            if isinstance(row, Placed):
                placed.append(row)
            else:
                refused.append(row)
    return placed, refused


def _converted(
    placed: Iterable[Placed], found: Detected
) -> tuple[list[Row], list[Row], list[Refused]]:
    """(rows as they stand, the same as their format reads them, those that do not fit)."""
    keep = (found.by,) if found.by else ()
    convert = converter(found.form, columns=found.columns, prompt=None, keep=keep)
    kept: list[Row] = []
    canonical: list[Row] = []
    refused: list[Refused] = []
    for row in placed:
        try:
            canonical.append(convert(row.row))
        except RowProblem as problem:
            refused.append(Refused(row.place, str(problem), ""))
        else:
            kept.append(row.row)
    return kept, canonical, refused


def _require_some(count: int, place: str) -> None:
    if count < FEWEST_ROWS:
        raise UserError(
            f"{place}: holds {count} rows; {FEWEST_ROWS} are the fewest that can be split "
            "into train, validation and test"
        )


def _require_few(left_out: Sequence[Refused], read: int, read_as: str = "") -> None:
    """As many rows may be left out as `prepare` lets pass; of a broken file none."""
    from pipeline.data.sources.chunks import BROKEN_OFF

    broken = next((row for row in left_out if row.reason.startswith(BROKEN_OFF)), None)
    first = broken or next(iter(left_out), None)
    share = Data.model_fields["max_quarantined"].default
    if first is not None and (broken is not None or len(left_out) > share * read):
        raise DataError(
            f"--data {first.place}: {first.reason} ({read_as}{len(left_out)} of {read} rows do "
            "not fit); mend or remove them"
        )


@dataclass(frozen=True)
class _Labels:
    """[N] the label by which each row is split, and all of its labels; codes follow the names."""

    home: Array
    sets: list[frozenset[int]]

    def of(self, rows: Array) -> _Labels:
        """Those of the rows that [N] bool marks."""
        return _Labels(self.home[rows], [self.sets[i] for i in np.flatnonzero(rows)])


def _groups(rows: Sequence[Row], canonical: Sequence[Row], by: str | None) -> Array:
    """[N] what must stay on one side: rows of one group, or rows that ask the same."""
    if by is not None:
        return _codes([str(row[by]) for row in rows])
    # Text of symbols alone is the same as no other.
    return _codes([letters_and_digits(row_text(row)) or row_text(row) for row in canonical])


def _codes(texts: Sequence[str]) -> Array:
    """[N] the same number for the same text, in the order of the texts."""
    return np.unique(np.array(texts, dtype=object), return_inverse=True)[1]


def _held_out(labels: _Labels, group: Array, by: str | None, place: str) -> Array:
    from pipeline.data.splits import hold_out

    try:
        return hold_out(
            "data.test", _TEST_SHARE, label=labels.home, sets=labels.sets, group=group, time=None,
            seed=_SEED, least=1,
        )  # fmt: skip
    except DataError:
        raise DataError(
            f"{place}: {len(group)} rows, and none can be held out for a test "
            f"({f'all share one {by}' if by else 'too many are alike'}); add rows that differ"
        ) from None


def _carve(labels: _Labels, group: Array, place: str) -> float:
    """The smallest share that leaves something to validate on."""
    from pipeline.data.splits import hold_out

    for share in _SHARES:
        try:
            hold_out("data.validation", share, label=labels.home, sets=labels.sets, group=group,
                     time=None, seed=0)  # fmt: skip
        except DataError:
            continue
        return share
    raise DataError(
        f"{place}: no label has rows enough for train, validation and test; add rows for each"
    )
