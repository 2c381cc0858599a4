"""Texts with a number to predict."""

from __future__ import annotations

from pipeline.core.features import number
from pipeline.data.formats.fields import Fields
from pipeline.data.formats.texts import text_row
from pipeline.data.rows import Row, RowProblem


def regression_row(fields: Fields, prompt: str | None) -> Row:
    """``text``, with the recipe's prompt around it where there is one, and ``value``."""
    given = fields.need("value")
    try:
        value = number(given, fields.columns.get("value", "value"))
    except ValueError as problem:
        raise RowProblem(str(problem)) from None
    return {**text_row(fields, prompt), "value": value}
