"""Entities that a row of B-/I-/O tags spells out, as seqeval and conlleval read them."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[str, int, int]


def spans_of(tags: Sequence[str]) -> list[Span]:
    """(label, first, last) of every entity; ``last`` is within it.

    An entity begins with its B-, or with an I- that goes on from nothing, or from another label
    (conlleval's reading, seqeval's default mode).
    """
    found: list[Span] = []
    begun: tuple[str, int] | None = None
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, label = tag.partition("-")
        goes_on = prefix == "I" and begun is not None and begun[0] == label
        if begun is not None and not goes_on:
            found.append((*begun, place - 1))
            begun = None
        if prefix in {"B", "I"} and not goes_on:
            begun = (label, place)
    return found
