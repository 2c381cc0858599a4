"""Hand-made features of a row: numbers of its columns, and how often patterns match its text.

Knows no tensor: `prepare` computes them for training, and whoever serves a classifier computes
the same numbers from the same specifications.
"""

from __future__ import annotations

import functools
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


def columns_of(specs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The columns that features are read from, each once, in their order."""
    return tuple(dict.fromkeys(str(spec["column"]) for spec in specs if spec.get("column")))


def feature_values(
    specs: Sequence[Mapping[str, Any]], text: str, columns: Mapping[str, Any]
) -> list[float]:
    """The raw features of one row, in the order of ``specs``; nothing is standardised.

    Args:
        specs: as features.json holds them: ``name``, and ``column`` or ``pattern``.
        text: the row's own text, without a prompt around it.
        columns: column to value; those that no feature names play no part.

    Raises:
        ValueError: a column is absent, or its value is no finite number; the reason in few words.
    """
    return [
        float(sum(1 for _ in _compiled(spec["pattern"]).finditer(text)))
        if spec.get("pattern") is not None
        else number(columns.get(spec["column"]), str(spec["column"]))
        for spec in specs
    ]


def number(value: Any, name: str) -> float:
    """A finite number; text that writes one counts, as a CSV file holds nothing else.

    Raises:
        ValueError: what it is instead, in few words.
    """
    if value is None:
        raise ValueError(f"{name} is null or absent, and a number is needed")
    if isinstance(value, bool):
        raise ValueError(f"{name} is {str(value).lower()}, not a number")
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError(f"{name} is text, not a number" if value.strip() else f"{name} is empty")
    # Decimals of a table are numbers too, and no part of numbers.Real.
    if not isinstance(value, str | numbers.Real) and not hasattr(value, "as_tuple"):
        raise ValueError(f"{name} is no number")
    try:
        found = float(value)
    except (OverflowError, ValueError):
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{name} is no finite number")
    return found


def pattern_problem(pattern: str) -> str | None:
    """Why a pattern cannot be used, or None."""
    try:
        _compiled(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"{pattern[:60]!r} is no regular expression ({error})"
    return None


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
