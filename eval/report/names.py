"""What ways of answering and measures are called on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.core.arms import arm_name


def row_name(row: Mapping[str, Any]) -> str:
    """One row of the table of ways: the control is told apart."""
    name = arm_name(row["arm"])
    return f"{name} (control)" if row.get("role") == "control" else name


def unique_names(rows: list[Mapping[str, Any]]) -> list[str]:
    """Names of rows; the model's is added where two would be called the same."""
    short = [row_name(row) for row in rows]
    return [
        f"{name}, {row['name']}" if short.count(name) > 1 else name
        for name, row in zip(short, rows, strict=True)
    ]


def times(count: int, word: str) -> str:
    """A count with its noun: `1 seed`, `3 seeds`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def significant(value: float | None, factor: float = 1.0) -> str:
    """Three significant digits and no power of ten; whole numbers as they are."""
    if value is None:
        return "–"
    if isinstance(value, int) and factor == 1:
        return f"{value:,}"
    shown = value * factor
    if not shown:
        return "0"
    digits = 2 - math.floor(math.log10(abs(shown)))
    return f"{shown:,.{max(digits, 0)}f}"
