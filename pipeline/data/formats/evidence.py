"""What the columns of a sample hold, by the majority of its rows: some rows may be broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

LEAST_SHARE = 0.25
"""A column that fewer rows than this share have is an exception, not a column."""
_LONGEST_LABEL = 60
_MOST_LABELS = 1000


class Evidence:
    """The columns of a sample. A column counts where a quarter of the rows have a value in it."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Counts what is there and not null."""
        values: dict[str, list[Any]] = {}
        for row in rows:
            for name, value in row.items():
                if value is not None:
                    values.setdefault(str(name), []).append(value)
        least = LEAST_SHARE * len(rows)
        self.values: Mapping[str, list[Any]] = {
            name: found for name, found in values.items() if len(found) >= least
        }

    @property
    def names(self) -> list[str]:
        """The columns, in the order in which rows show them."""
        return list(self.values)

    def mostly(self, name: str, holds: Callable[[Any], bool]) -> bool:
        """Whether more than half of a column's values are such; False without the column."""
        values = self.values.get(name, [])
        return sum(map(holds, values)) > len(values) / 2

    def first(self, names: Sequence[str], holds: Callable[[Any], bool]) -> str | None:
        """The first of these columns that mostly holds such values."""
        return next((name for name in names if self.mostly(name, holds)), None)

    def count(self, name: str) -> int:
        """Rows that have a value in this column; 0 without the column."""
        return len(self.values.get(name, ()))

    def length(self, name: str) -> float:
        """Characters of a column's texts, on average."""
        texts = [value for value in self.values.get(name, ()) if isinstance(value, str)]
        return sum(map(len, texts)) / max(1, len(texts))

    def labels(self, name: str, most: float, least: int = 2) -> bool:
        """Whether a column mostly holds short values, ``least`` to ``most`` different ones."""
        if not self.mostly(name, is_label):
            return False
        found = {_key(value) for value in self.values[name] if is_label(value)}
        return least <= len(found) <= min(most, _MOST_LABELS)

    def few(self, name: str) -> bool:
        """Whether a column's values come again and again, as classes do and answers do not."""
        return self.labels(name, max(2.0, self.count(name) / 10))

    def same(self, one: str, other: str) -> bool:
        """Whether two columns name the same classes, each value of one with one of the other."""
        first, second = ([_key(value) for value in self.values[name]] for name in (one, other))
        pairs = set(zip(first, second, strict=False))
        return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})

    def repeats(self, name: str) -> bool:
        """Whether a column has several values, and rows that share one."""
        values = [_key(value) for value in self.values.get(name, ())]
        return 1 < len(set(values)) < len(values)


def is_text(value: Any) -> bool:
    """Text, empty or not."""
    return isinstance(value, str)


def is_wordy(value: Any) -> bool:
    """Text that people read: words between blanks, or a script that sets none."""
    return isinstance(value, str) and (" " in value.strip() or not value.isascii())


def is_label(value: Any) -> bool:
    """What can be a class: short text on one line, a whole number, true or false."""
    return isinstance(value, str | int) and len(_short(value)) <= _LONGEST_LABEL


def is_labels(value: Any) -> bool:
    """Several classes of one row."""
    return isinstance(value, list) and all(is_label(item) for item in value)


def is_flag(value: Any) -> bool:
    """True or false, also as a table writes it."""
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in _FLAGS)


def turns_with(*keys: str) -> Callable[[Any], bool]:
    """A test for lists of objects that have these keys."""

    def holds(value: Any) -> bool:
        if not isinstance(value, list) or not value:
            return False
        such = sum(isinstance(turn, dict) and set(keys) <= turn.keys() for turn in value)
        return such > len(value) / 2

    return holds


def is_turns(value: Any) -> bool:
    """A list of objects: turns of some kind."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


_FLAGS = {"true", "false"}


def _short(value: str | int) -> str:
    # Long integers are slow to write, and no class is one.
    if isinstance(value, int) and value.bit_length() > 128:
        return " " * (_LONGEST_LABEL + 1)
    return str(value)


def _key(value: Any) -> str:
    return _short(value) if isinstance(value, str | int) else ""
