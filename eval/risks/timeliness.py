"""Timeliness: the newest day that the training data speaks of."""

from __future__ import annotations

import datetime
import re
import statistics
from collections.abc import Iterable, Iterator

from eval.risks.line import Line, not_measured

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_MONTH = "|".join(f"{name}|{name[:3]}\\.?" for name in _MONTHS)
_PATTERNS = (
    re.compile(r"(?<![\d./-])(?P<y>(?:19|20)\d\d)[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?![\d/-])"),
    re.compile(rf"\b(?P<d>\d{{1,2}})\.? (?P<n>{_MONTH}),? (?P<y>(?:19|20)\d\d)\b", re.IGNORECASE),
    re.compile(rf"\b(?P<n>{_MONTH}) (?P<d>\d{{1,2}}),? (?P<y>(?:19|20)\d\d)\b", re.IGNORECASE),
    re.compile(r"(?P<y>(?:19|20)\d\d)\s*年\s*(?P<m>\d{1,2})\s*月\s*(?P<d>\d{1,2})\s*[日号]"),
)
HOW = (
    "the latest whole date in the texts of training rows (2024-05-31, 31 May 2024, May 31, 2024, "
    "2024年5月31日), not after the day on which they were prepared; months and years alone are "
    "not counted"
)


def dates_of(text: str) -> Iterator[datetime.date]:
    """Every whole date that stands in a text."""
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            named = match.groupdict()
            month = int(named["m"]) if named.get("m") else _month(named["n"])
            try:
                yield datetime.date(int(named["y"]), month, int(named["d"]))
            except ValueError:
                continue  # 2024-13-45 looks like a date and is none.


def timeliness_lines(texts: Iterable[str], prepared: datetime.date) -> list[Line]:
    """The newest date of the training rows.

    Args:
        prepared: the day on which the rows were prepared.
    """
    what = "newest date in the training data"
    newest: list[datetime.date] = []
    rows = 0
    for text in texts:
        rows += 1
        found = [day for day in dates_of(text) if day <= prepared]
        newest += [max(found)] if found else []
    if not newest:
        why = f"no whole date stands in its {rows:,} rows"
        return [not_measured("timeliness", what, why)]
    # One row may speak of a day long after it was written: the middle row tells of the others.
    middle = statistics.median_low(newest)
    shown = (
        f"{max(newest)}; of half of the {len(newest):,} rows with a date it is {middle} or older "
        f"(n = {rows:,} rows)"
    )
    return [Line("timeliness", what, shown, HOW, n=rows)]


def _month(name: str) -> int:
    start = name.casefold()[:3]
    return 1 + next(i for i, month in enumerate(_MONTHS) if month.startswith(start))
