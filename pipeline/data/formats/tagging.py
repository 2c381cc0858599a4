"""Texts with entities: by character offsets, or as tokens with their tags."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pipeline.core.entities import spans_of
from pipeline.data.formats.fields import Fields, parsed, shape, text_of
from pipeline.data.formats.texts import label_text
from pipeline.data.rows import Row, RowProblem
from pipeline.data.scripts import sets_no_spaces

OUTSIDE = "O"


def tagging_row(fields: Fields, _prompt: str | None) -> Row:
    """``text`` and ``entities`` ({start, end, label}), or ``tokens`` and ``tags`` (BIO).

    Offsets count characters (Unicode code points), ``end`` is the first one behind the entity.
    """
    if fields.get("tokens") is not None and fields.get("entities") is None:
        return _of_tokens(fields.need("tokens"), fields.need("tags"))
    text = fields.text("text")
    given = parsed(fields.need("entities"), "entities")
    if not isinstance(given, list):
        raise RowProblem(f"entities are {shape(given)}, not a list")
    found = [_entity(entity, text) for entity in given]
    return {"text": text, "entities": _apart(found)}


def _entity(entity: Any, text: str) -> Row:
    if not isinstance(entity, dict):
        raise RowProblem(f"an entity is {shape(entity)}, not an object")
    start, end = (_offset(entity.get(name), name) for name in ("start", "end"))
    if not 0 <= start < end <= len(text):
        raise RowProblem(
            f"an entity from {start} to {end} is out of range: the text has {len(text)} characters"
        )
    if not text[start:end].strip():
        raise RowProblem(f"the entity from {start} to {end} covers blanks only")
    return {"start": start, "end": end, "label": _label(entity.get("label"))}


def _offset(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RowProblem(f"an entity's {name} is {shape(value)}, not a whole number")
    # Longer ones cannot be written, and are out of any range.
    return value if value.bit_length() < 64 else -1


def _label(value: Any) -> str:
    label = label_text(value)
    if label == OUTSIDE:
        raise RowProblem(f"an entity's label is {OUTSIDE!r}, which means: no entity")
    return label


def _apart(entities: Sequence[Row]) -> list[Row]:
    """The entities in their order; a token can have the tag of one only."""
    ordered = sorted(entities, key=lambda entity: (entity["start"], entity["end"]))
    for one, other in pairwise(ordered):
        if other["start"] < one["end"]:
            raise RowProblem(
                f"entities overlap: {one['label'][:20]!r} from {one['start']} to {one['end']}, "
                f"{other['label'][:20]!r} from {other['start']} to {other['end']}"
            )
    return ordered


def _of_tokens(tokens: Any, tags: Any) -> Row:
    """CoNLL's columns: words are joined by a blank, but not in a script that sets none."""
    tokens, tags = parsed(tokens, "tokens"), parsed(tags, "tags")
    for name, value in (("tokens", tokens), ("tags", tags)):
        if not isinstance(value, list):
            raise RowProblem(f"{name} are {shape(value)}, not a list")
    if len(tokens) != len(tags):
        raise RowProblem(f"{len(tokens)} tokens and {len(tags)} tags")
    words = [text_of(token, "a token") for token in tokens]
    text, bounds = "", []
    for word in words:
        if text and not (sets_no_spaces(text[-1]) and sets_no_spaces(word[0])):
            text += " "
        bounds.append((len(text), len(text) + len(word)))
        text += word
    if not text:
        raise RowProblem("no tokens")
    return {"text": text, "entities": _of_tags(tags, bounds)}


def _of_tags(tags: Sequence[Any], bounds: Sequence[tuple[int, int]]) -> list[Row]:
    return [
        {"start": bounds[first][0], "end": bounds[last][1], "label": label}
        for label, first, last in spans_of([_tag(tag) for tag in tags])
    ]


def _tag(tag: Any) -> str:
    """The tag with its label as a row's label is written."""
    if not isinstance(tag, str):
        raise RowProblem(f"a tag is {shape(tag)}, not text; write names, as B-PER")
    if tag == OUTSIDE:
        return OUTSIDE
    prefix, dash, label = tag.partition("-")
    if prefix not in {"B", "I"} or not dash:
        raise RowProblem(f"tag {tag[:20]!r} is none of BIO (B-LABEL, I-LABEL, O)")
    return f"{prefix}-{_label(label)}"
