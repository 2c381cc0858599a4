"""Counterfactual swaps: does an answer change with a name or a group that should not matter?

A file of JSON Lines says what changes places: ``{"what": "gender", "swap": [["he", "she"]]}``
exchanges the words of each pair in every text that has one; ``{"what": "the writer's name",
"say": ["My name is James.", "My name is Lakisha."]}`` puts one or the other before every text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.record import Prediction
from eval.risks.files import read_lines
from eval.risks.line import Line, not_measured, share
from eval.risks.suites import Suite
from pipeline.core.errors import DataError

Answer = Callable[[Suite], Sequence[Prediction]]
_KEY = "evaluate.risks.swaps"


@dataclass(frozen=True)
class Swap:
    """What changes places; one of the two is empty."""

    what: str
    pairs: tuple[tuple[str, str], ...] = ()
    say: tuple[str, str] | None = None

    def versions(self, text: str) -> tuple[str, str] | None:
        """A text twice, with one thing different; None where the text has nothing to swap."""
        if self.say is not None:
            first, second = self.say
            return f"{first} {text}", f"{second} {text}"
        other = swapped(text, self.pairs)
        return None if other == text else (text, other)


def read_swaps(path: Path) -> list[Swap]:
    """The swaps of a file.

    Raises:
        DataError: a row that says neither or both, or no pairs.
    """
    return [_swap(row, f"{_KEY}: {path.name}") for row in read_lines(path, ("what",), _KEY)]


def _swap(row: Mapping[str, Any], place: str) -> Swap:
    what = str(row["what"])
    given = [key for key in ("swap", "say") if key in row]
    pairs = row.get("swap", [row.get("say")])
    sound = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(w, str) and w for w in pair)
        for pair in pairs
    )
    if len(given) != 1 or not sound or not pairs:
        raise DataError(
            f'{place}: {what}: write "swap": [["he", "she"], ...] or "say": ["one.", "other."]'
        )
    made = tuple((pair[0], pair[1]) for pair in pairs)
    return Swap(what, say=made[0]) if given == ["say"] else Swap(what, made)


def swapped(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    """The text with the words of each pair exchanged, whole words only, in their own case.

    Where a word stands in several pairs its first one counts.
    """
    other: dict[str, str] = {}
    for one, two in pairs:
        other.setdefault(one.casefold(), two)
        other.setdefault(two.casefold(), one)
    words = sorted(other, key=len, reverse=True)
    pattern = re.compile("|".join(_whole(word) for word in words), re.IGNORECASE)
    return pattern.sub(lambda match: _cased(match[0], other[match[0].casefold()]), text)


def _whole(word: str) -> str:
    """A pattern for a whole word; scripts written without blanks have no borders to look for."""
    plain = re.escape(word)
    return rf"(?<!\w){plain}(?!\w)" if word.isascii() else plain


def _cased(found: str, other: str) -> str:
    if found.isupper() and len(found) > 1:
        return other.upper()
    return other[:1].upper() + other[1:] if found[:1].isupper() else other


def swap_lines(
    path: Path | None,
    suites: Sequence[Suite],
    answer: Answer,
    most: Callable[[Suite], int | None],
    no_suite: str,
) -> list[Line]:
    """The share of items whose answer changes, for each suite and swap.

    Args:
        most: tokens of the longest question of a suite that can be asked, or None.
        no_suite: why there are none, where there are none.
    """
    what = "answers that change with swapped names or groups"
    if path is None:
        return [not_measured("bias", what, "evaluate.risks.swaps names no file")]
    if not suites:
        return [not_measured("bias", what, no_suite)]
    lines = []
    for suite in suites:
        for swap in read_swaps(path):
            told = f"{what}: {swap.what} ({suite.name})"
            if suite.refusal is not None:
                lines.append(not_measured("bias", told, suite.refusal))
                continue
            lines.append(_line(suite, swap, answer, told, most(suite)))
    return lines


def _line(suite: Suite, swap: Swap, answer: Answer, what: str, most: int | None = None) -> Line:
    applies = {
        index: found
        for index, text in enumerate(suite.texts)
        if (found := swap.versions(text)) is not None
    }
    if not applies:
        why = f"none of {len(suite.rows):,} asked texts holds a word of this swap"
        return not_measured("bias", what, why)
    versions = {
        index: pair
        for index, pair in applies.items()
        if all(suite.fits(text, most) for text in pair)
    }
    if not versions:
        why = f"none of the {len(applies):,} texts that it applies to fits the model's context"
        return not_measured("bias", what, why)
    mine = suite.only(list(versions))
    first, second = (
        answer(mine.reworded([pair[side] for pair in versions.values()])) for side in (0, 1)
    )
    pairs = [(a.label, b.label) for a, b in zip(first, second, strict=True)]
    # Two answers that are no labels are alike in nothing else: they show no fairness.
    kept = [i for i, pair in enumerate(pairs) if any(label is not None for label in pair)]
    told = [pairs[index] for index in kept]
    if not told:
        why = f"neither answer to any of {len(pairs):,} items is a label"
        return not_measured("bias", what, why)
    how = (
        f"each asked both ways; the swap applies to {len(applies):,} of {len(suite.rows):,} asked "
        f"texts, {len(applies) - len(pairs):,} of them left out as longer than the context and "
        f"{len(pairs) - len(told):,} because neither answer was a label"
    )
    clusters = mine.only(kept).clusters
    return share("bias", what, [one != other for one, other in told], how, clusters=clusters)
