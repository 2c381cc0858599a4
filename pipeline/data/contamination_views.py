"""The texts by which an item may be known, beside all that the model is asked.

- a part: the user's turns without system text and earlier answers, one turn alone, or the
  system text over a turn that says nothing ("Answer."). It has to weigh enough, and to be of
  one item only: what items share that differ otherwise ("Summarise the text above.") is an
  instruction, not the item.
- the rest: what a template leaves. Items that are filled into one ("Classify this query: ...")
  stand bare, or in another template, in somebody's training rows. A template is what 95 % of a
  set (three items at least) begin or end with, 10 characters or more; or what a quarter of it
  does, 40 or more: sets mix tasks. In a set of under 40 items that may be a passage, so there
  it has at most 400. An item with such a rest is compared as a whole by ``exact`` only, and
  rows that are filled into the same template are compared without it: else everything in a
  long template would be near everything.
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
# Share of a set, and the least characters of a template that so many share.
_KINDS = ((0.95, 10), (0.25, 40))
_SMALL_SET, _LONGEST = 40, 400
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
        filled: 1 where a view stands in a template and its rest is a view too, [views].
    """

    starts: Ints
    items: Ints
    first: Ints
    filled: Ints


@dataclass(frozen=True, slots=True)
class Templates:
    """What rows are stripped of before they are compared with rests.

    Attributes:
        before, after: beginnings and ends of texts, longest first.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]

    def rest(self, text: str) -> str | None:
        """What is left of a text in a template; None where it is in none."""
        start = next((len(t) for t in self.before if text.startswith(t)), 0)
        end = next((len(t) for t in self.after if text.endswith(t)), 0)
        rest = text[start : len(text) - end].strip() if start or end else ""
        return rest if rest and start + end < len(text) else None


def views_of(items: Sequence[Item]) -> tuple[list[Item], Owners, Templates]:
    """Every text by which the items are known, each once, passages apart."""
    fulls = [replace(i, text=i.also[0], context="", also=()) if i.also else i for i in items]
    parts = _parts(items, fulls)
    own = [(owner, part) for owner, part in parts if part.text == items[owner].whole]
    in_full, in_own = _Rests(list(enumerate(fulls))), _Rests(own)
    rests = [*in_full.found, *in_own.found]
    filled = in_full.filled | in_own.filled
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
    table = np.array(sorted(set(pairs)), np.int64).reshape(-1, 2)
    owners = Owners(
        starts=np.searchsorted(table[:, 0], np.arange(len(views) + 1)),
        items=np.ascontiguousarray(table[:, 1]),
        first=first,
        filled=np.array([view.whole in filled for view in views], np.int64),
    )
    before, after = ({*a, *b} for a, b in zip(in_full.templates, in_own.templates, strict=True))
    return views, owners, Templates(_longest_first(before), _longest_first(after))


def _longest_first(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(texts, key=lambda text: (-len(text), text)))


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


class _Rests:
    """What is left of texts that are filled into a template.

    Attributes:
        found: the rests.
        filled: the texts that have one.
        templates: their beginnings and their ends.
    """

    def __init__(self, texts: Sequence[tuple[int, Item]]) -> None:
        self.found: list[tuple[int, Item]] = []
        self.filled: set[str] = set()
        self.templates: tuple[set[str], set[str]] = (set(), set())
        sets: dict[str, list[tuple[int, Item]]] = defaultdict(list)
        for owner, item in texts:
            sets[item.suite].append((owner, item))
        for members in sets.values():
            wholes = [item.whole for _, item in members]
            before = _template_lengths(wholes)
            after = _template_lengths([text[::-1] for text in wholes])
            for member, start, end in zip(members, before, after, strict=True):
                self._add(*member, start, end)

    def _add(self, owner: int, item: Item, start: int, end: int) -> None:
        text = item.whole
        rest = text[start : len(text) - end].strip()
        # Beginning and end may meet where a text says nothing of its own.
        if not (start or end) or start + end >= len(text) or not letters_and_digits(rest):
            return
        self.found.append((owner, Item(item.suite, item.id, rest)))
        self.filled.add(text)
        for side, words in zip(
            self.templates, (text[:start], text[len(text) - end :]), strict=True
        ):
            if words:
                side.add(words)


def _template_lengths(texts: Sequence[str]) -> list[int]:
    """Characters of the template that each text begins with; 0 where it has none."""
    found = [0] * len(texts)
    order = sorted(range(len(texts)), key=texts.__getitem__)
    for share, least in _KINDS:
        bounded = share < _KINDS[0][0] and len(texts) < _SMALL_SET
        most = _LONGEST if bounded else max(map(len, texts))
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
