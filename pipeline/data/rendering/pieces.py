"""Tokens with their places in a text, and the tags of entities over them.

The ids are the tokenizer's own for the plain text, special tokens included, whatever the kind
of base: no chat template, and no end-of-text after it. A token that overlaps an entity has its
tag: B- the first of them, I- the others; all other tokens have O, and special ones none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import ModelError
from pipeline.data.arrow import IGNORED
from pipeline.data.rendering.renderer import Renderer
from pipeline.data.rows import RowProblem


@dataclass(frozen=True, slots=True)
class Pieces:
    """One text's tokens.

    Attributes:
        ids: T token ids.
        spans: T pairs: first character, and the first one behind, in the text as given.
        special: T flags: put in by the tokenizer itself.
    """

    ids: list[int]
    spans: list[tuple[int, int]]
    special: list[int]


def pieces(renderer: Renderer, texts: Sequence[str]) -> list[Pieces]:
    """Every text's tokens, control strings neutralised as everywhere.

    Raises:
        ModelError: the tokenizer does not tell where its tokens stand.
    """
    tokenizer = renderer.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            "base: its tokenizer does not tell where its tokens stand, which objective tag needs; "
            "choose a base with a tokenizer.json"
        )
    if not texts:
        return []
    whole = [renderer.controls.neutralise(text) for text in texts]
    made = tokenizer(
        whole, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
    )
    found = []
    for number, (text, read) in enumerate(zip(texts, whole, strict=True)):
        spans = [(int(start), int(end)) for start, end in made["offset_mapping"][number]]
        if read != text:
            place = _places(text, read)
            spans = [(place[start], place[end]) for start, end in spans]
        special = list(made["special_tokens_mask"][number])
        found.append(Pieces(list(made["input_ids"][number]), spans, special))
    return found


def tags_of(
    cut: Pieces, text: str, entities: Sequence[Mapping[str, Any]], number: Mapping[str, int]
) -> tuple[list[int], bool]:
    """The tag of every token, and whether an entity begins or ends inside of one.

    Args:
        entities: {start, end, label} in characters, in their order, apart.
        number: tag to its number.

    Raises:
        RowProblem: a token that holds parts of two entities, or an entity without a token.
    """
    bounds = [_bare(text, entity["start"], entity["end"]) for entity in entities]
    ends = [end for _, end in bounds]
    tags, opened, wider = [], set[int](), False
    for (start, end), special in zip(cut.spans, cut.special, strict=True):
        if special:
            tags.append(IGNORED)
            continue
        first = bisect_right(ends, start)
        inside = [i for i in (first, first + 1) if i < len(bounds) and bounds[i][0] < end]
        if not inside:
            tags.append(number["O"])
            continue
        if len(inside) > 1:
            raise RowProblem(
                f"one token holds parts of two entities, at characters {start} to {end}: no tag "
                "fits it"
            )
        index = inside[0]
        own = _bare(text, start, end)
        wider |= own[0] < bounds[index][0] or own[1] > bounds[index][1]
        prefix = "I" if index in opened else "B"
        opened.add(index)
        tags.append(number[f"{prefix}-{entities[index]['label']}"])
    lost = next((i for i in range(len(bounds)) if i not in opened), None)
    if lost is not None:
        raise RowProblem(
            f"no token stands for the entity from {entities[lost]['start']} to "
            f"{entities[lost]['end']}: the tokenizer drops its characters"
        )
    return tags, wider


def _bare(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without blanks at its ends: tokens take the blank before them, entities do not."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _places(text: str, read: str) -> list[int]:
    """Place in ``read`` to place in ``text``, which is the same without some separators."""
    found, index = [], 0
    for character in read:
        found.append(index)
        if index < len(text) and character == text[index]:
            index += 1
    return [*found, index]
