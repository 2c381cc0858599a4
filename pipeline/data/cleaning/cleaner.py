"""Cleans one row: steps in a fixed order, until a further round would change nothing.

The order: unicode, html, control_characters, damaged (remove), whitespace, one after the other on
each text until they settle (a decoded reference may hold a control character); then, on the
settled row, damaged (report, drop), unfilled_fields, personal_data, min_characters,
max_characters, language, quality (gopher, then c4). Where one of these changes the row (redaction,
C4's lines), all begins anew, so that cleaning twice is cleaning once. Labels are never touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.data.cleaning import c4, gopher
from pipeline.data.cleaning.characters import (
    composed,
    damage,
    tidy,
    without_controls,
    without_damage,
)
from pipeline.data.cleaning.language import LanguageJudge, judged
from pipeline.data.cleaning.markup import without_markup
from pipeline.data.cleaning.personal_data import PersonalDataAnalyser
from pipeline.data.cleaning.unfilled import unfilled_fields
from pipeline.data.rows import Row, texts_of, with_texts

# Each round takes one layer off markup that is nested into itself; honest text has two.
MOST_ROUNDS = 20
_TOLD = {"label", "labels", "entities", "value"}
TOO_SHORT = "language: too short to judge"


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of a row.

    Attributes:
        row: the row, the very same object where nothing changed; None where it is dropped.
        dropped: the step and its reason, ``quality: gopher: mean word length 1.9``; else None.
            Never a text of the row itself, which may be personal.
        changed: the steps that changed the row, in the order in which they first did.
        found: defects that were reported and left as they are.
    """

    row: Row | None
    dropped: str | None
    changed: tuple[str, ...]
    found: tuple[str, ...]


class _Dropped(Exception):
    """Ends the cleaning of a row; it never leaves this module."""


class _Tally:
    """What happened to one row so far: two sets that keep their order."""

    def __init__(self) -> None:
        self.changed: dict[str, None] = {}
        self.found: dict[str, None] = {}


class Cleaner:
    """Cleans rows one by one; built once for each worker, picklable, without state.

    Args:
        settings: ``Clean.model_dump()`` of ``pipeline.core.schema``.

    Raises:
        DataError: a setting names a kind of personal data that is not offered.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings)
        self._text_steps = _text_steps(settings)
        personal = settings.get("personal_data")
        self._action = personal["action"] if personal else None
        self._personal = (
            PersonalDataAnalyser(personal["entities"], personal["least_score"])
            if personal
            else None
        )
        language = settings.get("language")
        self._least_characters = language["least_characters"] if language else 0
        self._language = (
            LanguageJudge(language["keep"], language["least_probability"]) if language else None
        )

    def __reduce__(self) -> tuple[type[Cleaner], tuple[dict[str, Any]]]:
        # Compiled patterns and loaded recognisers are each worker's own.
        return Cleaner, (self._settings,)

    def __call__(self, row: Row) -> Cleaned:
        """What becomes of a row; the row given is not changed.

        Raises:
            DataError: ``clean.language.keep`` names a language that is not known.
        """
        tally = _Tally()
        kept: Row | None = None
        dropped: str | None = None
        try:
            kept = self._settled(row, tally)
        except _Dropped as reason:
            dropped = str(reason)
        return Cleaned(kept, dropped, tuple(tally.changed), tuple(tally.found))

    def _settled(self, row: Row, tally: _Tally) -> Row:
        for _ in range(MOST_ROUNDS):
            row = self._with_clean_texts(row, tally)
            self._report_defects(row, tally)
            after = self._without_personal_data(row, tally)
            self._check_length(after)
            self._check_language(after, tally)
            after = self._of_quality(after, tally)
            if after is row:
                return row
            row = after
        raise _Dropped(f"not settled after {MOST_ROUNDS} rounds of cleaning")

    def _with_clean_texts(self, row: Row, tally: _Tally) -> Row:
        if not self._text_steps:
            return row
        clean = {text: self._clean_text(text, tally) for text in _texts(row)}
        return with_texts(row, clean.__getitem__) if any(a != b for a, b in clean.items()) else row

    def _clean_text(self, text: str, tally: _Tally) -> str:
        for _ in range(MOST_ROUNDS):
            before = text
            for name, step in self._text_steps:
                after = step(text)
                if after != text:
                    tally.changed[name] = None
                    if not after or after.isspace():
                        raise _Dropped(f"{name}: a text is left empty")
                    text = after
            if text == before:
                return text
        raise _Dropped(f"html: markup nested more than {MOST_ROUNDS} deep")

    def _report_defects(self, row: Row, tally: _Tally) -> None:
        if self._settings["damaged"] != "remove":
            count = sum(map(damage, texts_of(row)))
            if count and self._settings["damaged"] == "drop":
                raise _Dropped(f"damaged: {count} lost characters")
            if count:
                tally.found["damaged"] = None
        fields = [field for text in texts_of(row) for field in unfilled_fields(text)]
        if fields and self._settings["unfilled_fields"] == "drop":
            raise _Dropped(f"unfilled_fields: {fields[0]}")
        if fields:
            tally.found["unfilled_fields"] = None

    def _without_personal_data(self, row: Row, tally: _Tally) -> Row:
        if self._personal is None:
            return row
        find = self._personal.find
        texts = [text for text in _texts(row) if find(text)]
        # Redaction would break a call's JSON or its types.
        calls = [text for text in _call_texts(row) if find(text)]
        if not texts and not calls:
            return row
        if self._action == "drop":
            kinds = sorted({found.entity for text in [*texts, *calls] for found in find(text)})
            raise _Dropped(f"personal_data: {', '.join(kinds)}")
        if self._action == "report" or calls:
            tally.found["personal_data" if texts else "personal_data: in a tool call"] = None
        if self._action == "report" or not texts:
            return row
        tally.changed["personal_data"] = None
        return with_texts(row, self._personal.redact)

    def _check_length(self, row: Row) -> None:
        low, high = self._settings["min_characters"], self._settings["max_characters"]
        if low is None and high is None:
            return
        count = sum(map(len, texts_of(row)))
        if low is not None and count < low:
            raise _Dropped(f"min_characters: {count}")
        if high is not None and count > high:
            raise _Dropped(f"max_characters: {count}")

    def _check_language(self, row: Row, tally: _Tally) -> None:
        if self._language is None:
            return
        text = judged("\n".join(texts_of(row)))
        if len(text) < self._least_characters:
            tally.found[TOO_SHORT] = None
            return
        reason = self._language.refuse(text)
        if reason is not None:
            raise _Dropped(f"language: {reason}")

    def _of_quality(self, row: Row, tally: _Tally) -> Row:
        quality = self._settings["quality"]
        # Both were made for pages: see gopher.
        if "text" not in row or not _TOLD.isdisjoint(row):
            return row
        if "gopher" in quality:
            reason = gopher.refuse_document(row["text"])
            if reason is not None:
                raise _Dropped(f"quality: gopher: {reason}")
        if "c4" in quality:
            text, refused = c4.clean_page(row["text"])
            if refused is not None:
                raise _Dropped(f"quality: c4: {refused}")
            if text != row["text"]:
                tally.changed["quality: c4"] = None
                return {**row, "text": text}
        return row


def _text_steps(settings: Mapping[str, Any]) -> list[tuple[str, Callable[[str], str]]]:
    steps: list[tuple[str, Callable[[str], str]]] = []
    if settings["unicode"]:
        steps.append(("unicode", partial(composed, form=settings["unicode"])))
    if settings["html"]:
        steps.append(("html", without_markup))
    if settings["control_characters"]:
        steps.append(("control_characters", without_controls))
    if settings["damaged"] == "remove":
        steps.append(("damaged", without_damage))
    if settings["whitespace"]:
        steps.append(("whitespace", tidy))
    return steps


def _texts(row: Row) -> Iterator[str]:
    """What ``with_texts`` changes: the row's texts that are not empty, and its source text."""
    yield from filter(None, texts_of(row))
    if row.get("source_text"):
        yield row["source_text"]


def _call_texts(row: Row) -> Iterator[str]:
    messages = [*row.get("messages", ()), row.get("chosen") or {}, row.get("rejected") or {}]
    for message in messages:
        if message.get("tool_calls"):
            yield from _leaves(message["tool_calls"])


def _leaves(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from _leaves(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _leaves(value)
    elif isinstance(tree, str | int):
        yield tree if isinstance(tree, str) else json.dumps(tree)
