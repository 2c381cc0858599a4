"""What somebody may have meant by a name that nothing has."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from pathlib import Path

_LOOKED_AT = 1000
"""Names that are compared, and letters of one: an error has to come at once."""
_ALIKE = 0.6


def nearest(name: str, known: Iterable[str]) -> str:
    """``, did you mean X?`` of the known name that is most like it; empty where none is."""
    # Whoever writes Demo for demo means it.
    by_plain = {each.lower(): each for each in itertools.islice(known, _LOOKED_AT)}
    asked = name.lower()[:_LOOKED_AT]
    found = difflib.get_close_matches(asked, by_plain, n=1, cutoff=_ALIKE)
    # A suffix that was left out counts for much in a short name.
    longer = sorted(each for each in by_plain if asked and each.startswith(f"{asked}."))
    best = next(iter([*longer, *found]), None)
    return "" if best is None else f", did you mean {by_plain[best]}?"


def nearest_path(path: Path) -> str:
    """The same of a path: what lies in its folder."""
    try:
        there = {str(each.relative_to(path.parent)) for each in path.parent.iterdir()}
    except (OSError, ValueError):
        return ""
    return nearest(path.name, sorted(there))
