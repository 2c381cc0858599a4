"""A source's row seen under our names, and what counts as text in it."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.data.rows import Row, RowProblem, fill

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Python refuses to write longer ones (4,300 digits), and no field of ours holds such a number.
_MOST_BITS = 4096
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Fields:
    """The columns of one row by our names.

    Attributes:
        raw: the row as the source holds it.
        ours: the same with the mapped columns under our names.
        columns: our field to their column.
    """

    raw: Mapping[str, Any]
    ours: Mapping[str, Any]
    columns: Mapping[str, str]

    @classmethod
    def of(cls, row: Row, columns: Mapping[str, str]) -> Fields:
        """Maps a row. A mapped column that the row lacks is absent, whatever else it holds."""
        if not columns:
            return cls(row, row, columns)
        theirs = set(columns.values())
        ours = {key: value for key, value in row.items() if key not in theirs | columns.keys()}
        for name, column in columns.items():
            value = _found(row, column)
            if value is not _ABSENT:
                ours[name] = value
        return cls(row, ours, columns)

    def get(self, *names: str) -> Any:
        """The first of these fields that is there and not null, else None."""
        for name in names:
            value = _found(self.ours, name)
            if value is not _ABSENT and value is not None:
                return value
        return None

    def need(self, *names: str) -> Any:
        """The same.

        Raises:
            RowProblem: none is there, or all are null.
        """
        value = self.get(*names)
        if value is None:
            column = self.columns.get(names[0], names[0])
            there = any(_found(self.ours, name) is not _ABSENT for name in names)
            raise RowProblem(f"{column} is null" if there else f"no column {column!r}")
        return value

    def text(self, *names: str) -> str:
        """Text that must be there and hold more than blanks."""
        return text_of(self.need(*names), self.columns.get(names[0], names[0]))

    def optional_text(self, *names: str) -> str | None:
        """Text, or None where it is absent, null or blank."""
        value = self.get(*names)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        return text_of(value, names[0])

    def filled(self, prompt: str, **more: str) -> str:
        """The recipe's prompt with the row's values; their names and ours both serve.

        Raises:
            RowProblem: a field that is absent, null, or neither text nor number.
        """
        values = {**self.raw, **self.ours, **more}
        for name in _PLACEHOLDER.findall(prompt):
            value = values.get(name)
            if name in values and not isinstance(value, str | int | float):
                raise RowProblem(f"prompt names {{{name}}}, which is {shape(value)}")
            plain(value, name)
        return text_of(fill(prompt, values), "the filled prompt")

    def own_words(self, prompt: str, **more: str) -> str | None:
        """What the row puts into the prompt, a line for each field; None where it is nothing.

        By this the row is recognised in another prompt, or in none.
        """
        values = {**self.raw, **self.ours, **more}
        named = [str(values[name]).strip() for name in dict.fromkeys(_PLACEHOLDER.findall(prompt))]
        return "\n".join(filter(None, named)) or None


def _found(row: Mapping[str, Any], path: str) -> Any:
    """A column by its name, else by a dotted path through objects."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split(".") if "." in path else ():
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return _ABSENT if value is row else value


def text_of(value: Any, name: str, *, blank: bool = False) -> str:
    """``value`` where it is text that UTF-8 can hold.

    Raises:
        RowProblem: another type, a NUL, half a surrogate pair, or blanks alone where ``blank`` is
            False.
    """
    if not isinstance(value, str):
        raise RowProblem(f"{name} is {shape(value)}, not text")
    if not blank and not value.strip():
        raise RowProblem(f"{name} is empty")
    if "\0" in value:
        # Raw bytes with one are refused where they are read; JSON may escape it.
        raise RowProblem(f"{name} holds a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            # JSON may escape half a surrogate pair, which nothing can write.
            raise RowProblem(f"{name} holds a lone surrogate") from None
    return value


def shape(value: Any) -> str:
    """A word for what a value is, as JSON names it."""
    names = {bool: "true or false", dict: "an object", list: "a list", str: "text"}
    if value is None:
        return "null"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    return next((word for kind, word in names.items() if isinstance(value, kind)), "no text")


def plain(value: Any, name: str) -> Any:
    """``value`` where JSON can hold it; dates and decimals of a table become text.

    Raises:
        RowProblem: what JSON cannot hold, at any depth.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text_of(value, name, blank=True)
    if isinstance(value, int) and value.bit_length() <= _MOST_BITS:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [plain(item, name) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {text_of(key, name, blank=True): plain(item, name) for key, item in value.items()}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return str(value)
    raise RowProblem(f"{name} holds a value that JSON has no form for")


def parsed(value: Any, name: str) -> Any:
    """An object, or the object that a JSON text holds.

    Raises:
        RowProblem: text that is not JSON, or what JSON cannot hold.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowProblem(f"{name} is not JSON") from None
    return plain(value, name)
