"""The texts by which an item may be known, beside all that the model is asked.

- a part: the user's turns without system text and earlier answers, one turn alone, or the
  system text over a turn that says nothing ("Answer."). It has to weigh enough, and to be of
  one item only: what items share that differ otherwise ("Summarise the text above.") is an
  instruction, not the item.
- the rest: what a template leaves. Items that are filled into one ("Classify this query: ...")
  stand bare, or in another template, in somebody's training rows. A template is what 95 % of a
  set (three items at least) begin or end with, 10 characters or more; or what a quarter of it
  does, 40 to 400 characters: sets mix tasks, and passages are longer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.data.contamination import Item, common_beginning, with_passages
from pipeline.data.contamination_text import Ints
from pipeline.data.contamination_weight import weighs
from pipeline.data.shingles import letters_and_digits

_FEWEST_ITEMS = 3
# Share of a set, and the characters that a template has that so many share.
_KINDS = ((0.95, 10, 1 << 30), (0.25, 40, 400))
# What a template ends with, if it stands among the last characters that are shared: questions
# may go on alike for a word or two ("Query: How do I ").
_NEAR = 20
_STRONG = ":：\n\"'“”「」。.?？!！>|]"


@dataclass(frozen=True, slots=True)
class Owners:
    """Which items stand behind each view; equal views are one.

    Attributes:
        starts: where each view's items begin in ``items``, [views + 1].
        items: items of each view, ascending.
        first: the view that has all that an item asks, [items].
    """

    starts: Ints
    items: Ints
    first: Ints


def views_of(items: Sequence[Item]) -> tuple[list[Item], Owners]:
    """Every text by which the items are known, each once, passages apart."""
    fulls = [replace(i, text=i.also[0], context="", also=()) if i.also else i for i in items]
    parts = _parts(items, fulls)
    rests = _rests(list(enumerate(fulls)))
    rests += _rests([(owner, part) for owner, part in parts if part.text == items[owner].whole])
    found: dict[tuple[str, str], int] = {}
    views: list[Item] = []
    pairs: list[tuple[int, int]] = []
    for kind in (list(enumerate(fulls)), parts, rests):
        # Each kind by itself: a part begins like parts, not like what it is a part of.
        apart = with_passages([view for _, view in kind])
        for (owner, _), view in zip(kind, apart, strict=True):
            number = found.setdefault((view.text, view.context), len(views))
            if number == len(views):
                views.append(replace(view, also=()))
            pairs.append((number, owner))
    # The pairs begin with what the items ask in all, in their order.
    first = np.array([view for view, _ in pairs[: len(items)]], np.int64)
    return views, _owners(pairs, len(views), first)


def _owners(pairs: Iterable[tuple[int, int]], views: int, first: Ints) -> Owners:
    table = np.array(sorted(set(pairs)), np.int64).reshape(-1, 2)
    starts = np.searchsorted(table[:, 0], np.arange(views + 1))
    return Owners(starts, np.ascontiguousarray(table[:, 1]), first)


def _parts(items: Sequence[Item], fulls: Sequence[Item]) -> list[tuple[int, Item]]:
    """Parts that weigh enough and are of one item only."""
    found: list[tuple[int, Item, tuple[str, str]]] = []
    seen: dict[tuple[str, str], str] = {}
    shared: set[tuple[str, str]] = set()
    for owner, item in enumerate(items):
        if not item.also:
            continue
        whole = letters_and_digits(fulls[owner].whole)
        for text in dict.fromkeys([item.whole, *item.also[1:]]):
            key = (item.suite, letters_and_digits(text))
            if key[1] == whole:
                continue
            # The same conversation twice is one item that stands twice.
            if seen.setdefault(key, whole) != whole:
                shared.add(key)
            found.append((owner, Item(item.suite, item.id, text), key))
    return [(o, part) for o, part, key in found if key not in shared and weighs(part.text)]


def _rests(texts: Sequence[tuple[int, Item]]) -> list[tuple[int, Item]]:
    """What is left of texts that are filled into a template."""
    sets: dict[str, list[tuple[int, Item]]] = defaultdict(list)
    for owner, item in texts:
        sets[item.suite].append((owner, item))
    found = []
    for members in sets.values():
        wholes = [item.whole for _, item in members]
        before = _template_lengths(wholes)
        after = _template_lengths([text[::-1] for text in wholes])
        for (owner, item), text, start, end in zip(members, wholes, before, after, strict=True):
            rest = text[start : len(text) - end].strip()
            # Beginning and end may meet where a text says nothing of its own.
            if (start or end) and start + end < len(text) and letters_and_digits(rest):
                found.append((owner, Item(item.suite, item.id, rest)))
    return found


def _template_lengths(texts: Sequence[str]) -> list[int]:
    """Characters of the template that each text begins with; 0 where it has none."""
    found = [0] * len(texts)
    order = sorted(range(len(texts)), key=texts.__getitem__)
    for share, least, most in _KINDS:
        size = max(_FEWEST_ITEMS, math.ceil(share * len(texts)))
        if size > len(texts):
            continue
        # Of sorted texts, a beginning that so many have is that of the first and last of a run.
        runs = [
            common_beginning(texts[a], texts[b])
            for a, b in zip(order, order[size - 1 :], strict=False)
        ]
        longest = _most_around(np.array(runs, np.int64), size)
        for index, length in zip(order, longest.tolist(), strict=True):
            if not found[index] and length >= least:
                cut = _border(texts[index], length, least)
                found[index] = cut if least <= cut <= most else 0
    return found


def _most_around(runs: Ints, size: int) -> Ints:
    """For each of the sorted texts the largest of the runs of ``size`` that it is in."""
    texts = len(runs) + size - 1
    # Running maxima in blocks, from either side: no run is looked at twice.
    blocks = -(-(texts + size) // size)
    padded = np.zeros(blocks * size, np.int64)
    padded[size - 1 : size - 1 + len(runs)] = runs
    table = padded.reshape(blocks, size)
    left = np.maximum.accumulate(table, axis=1).ravel()
    right = np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1].ravel()
    # Text j is in the runs j - size + 1 to j, which stand at j to j + size - 1.
    found: Ints = np.maximum(right[:texts], left[size - 1 : size - 1 + texts])
    return found


def _border(text: str, length: int, least: int) -> int:
    """Where the template ends: after a mark or line that is near, else between two words."""
    if length == len(text):
        return length
    for place in range(length, max(least, length - _NEAR) - 1, -1):
        if text[place - 1] in _STRONG:
            return place
    for place in range(length, least - 1, -1):
        if not (text[place - 1].isalnum() and text[place].isalnum()):
            return place
    return 0
