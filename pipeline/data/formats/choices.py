"""Questions with choices: the options, and which of them is the answer."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.data.formats.fields import Fields, shape, text_of
from pipeline.data.rows import RowProblem


@dataclass(frozen=True, slots=True)
class Options:
    """The choices of a question.

    Attributes:
        texts: what they say, in order.
        names: what the row calls them (ARC: ``1`` to ``4``), else A, B, C and so on.
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]


def options_of(fields: Fields) -> Options | None:
    """A row's choices: a list of texts, or texts with their labels (ARC).

    Raises:
        RowProblem: fewer than two, more than 26, or what is no text.
    """
    value = fields.get("choices", "options")
    if value is None:
        return None
    names: Any = None
    if isinstance(value, dict):
        names = value.get("label")
        value = value.get("text")
    if not isinstance(value, list):
        raise RowProblem(f"choices are {shape(value)}, not a list")
    if not 2 <= len(value) <= len(string.ascii_uppercase):
        raise RowProblem(f"{len(value)} choices, and 2 to 26 can be lettered")
    texts = tuple(text_of(choice, "a choice") for choice in value)
    if len(set(texts)) < len(texts):
        raise RowProblem("a choice stands twice")
    if names is None:
        return Options(texts, tuple(string.ascii_uppercase[: len(texts)]))
    if not isinstance(names, list) or len(names) != len(texts):
        raise RowProblem("choices and their labels differ in number")
    return Options(texts, tuple(text_of(name, "a choice's label") for name in names))


def lettered(texts: Sequence[str]) -> str:
    """The choices, one a line: ``A. ...``."""
    pairs = zip(string.ascii_uppercase, texts, strict=False)
    return "\n".join(f"{letter}. {text}" for letter, text in pairs)


def picked(answer: Any, options: Options) -> str:
    """The text of the choice that the answer names.

    An answer is a position counted from 0, a letter (or what the row calls its choices), or
    the text of a choice.

    Raises:
        RowProblem: it names none of them, or two.
    """
    texts = options.texts
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        raise RowProblem(f"answer is {shape(answer)}, and it must name a choice")
    if isinstance(answer, int):
        if not 0 <= answer < len(texts):
            raise RowProblem(f"the answer's position is outside the {len(texts)} choices")
        return texts[answer]
    word = text_of(answer, "answer").strip()
    meant = {text for text in texts if text.strip() == word}
    meant |= {text for name, text in zip(options.names, texts, strict=True) if name == word}
    if not meant and word.isascii() and word.isdigit() and len(word) < 3:
        meant = set(texts[int(word) : int(word) + 1])
    if len(meant) != 1:
        raise RowProblem(f"answer {word[:20]!r} names {'two choices' if meant else 'no choice'}")
    return meant.pop()
