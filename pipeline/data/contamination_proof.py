"""The three tests of ``pipeline.data.contamination`` on one pair of texts, by the texts.

The index finds candidates by hashes; nothing is called contaminated before it passes here.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pipeline.data.contamination import Item
from pipeline.data.contamination_grams import NEAR, OF
from pipeline.data.contamination_text import SHINGLE, folded, words_of
from pipeline.data.shingles import letters_and_digits

LONGEST_RUN = 13
_RUN = re.compile(r"\W+")


class RowWords:
    """The tokens of one training row, and its n-grams once they are asked for."""

    def __init__(self, whole: str) -> None:
        """Takes the row's whole text."""
        self._words = words_of(folded(whole))
        self.line = _line(self._words)
        self._grams: frozenset[tuple[str, ...]] | None = None

    def share(self, words: list[str]) -> float:
        """Share of the distinct n-grams of ``words`` in the row; n is at most LONGEST_RUN."""
        if len(words) <= LONGEST_RUN:
            return float(_line(words) in self.line)
        if self._grams is None:
            self._grams = _grams(self._words)
        grams = _grams(words)
        return len(grams & self._grams) / len(grams)


def is_exact(item: Item, text: str) -> bool:
    """Whether letters and digits are the same; texts without any say nothing."""
    return letters_and_digits(text) == letters_and_digits(item.whole) != ""


def near_score(item: Item, text: str) -> float | None:
    """The Jaccard index where the texts are near copies, else None."""
    ours, theirs = shingle_set(item.whole), shingle_set(text)
    if not _alike(ours, theirs):
        return None
    if item.context:
        passage = shingle_set(item.context)
        if (ours | theirs) - passage and not _alike(ours - passage, theirs - passage):
            return None
    return len(ours & theirs) / len(ours | theirs)


def contained_score(item: Item, row: RowWords) -> float | None:
    """The share of n-grams that the row holds, where it is enough, else None."""
    share = row.share(_item_words(carrier(item)))
    if OF * share < NEAR:
        return None
    if item.context:
        question = _item_words(item.text)
        if len(question) > LONGEST_RUN:
            return share if OF * row.share(question) >= NEAR else None
        beside = row.line.replace(_line(_item_words(item.context)), " ", 1)
        return share if _line(question) in beside else None
    return share


def carrier(item: Item) -> str:
    """What an item is looked up by in longer rows: its passage, or all of it."""
    return item.context or item.text


# Items and rows come up several times in a run: with each other's near copies.
@lru_cache(256)
def shingle_set(text: str) -> frozenset[str]:
    """The distinct 5-grams of characters."""
    plain = _RUN.sub(" ", folded(text)).strip()
    return frozenset(plain[i : i + SHINGLE] for i in range(len(plain) - SHINGLE + 1))


@lru_cache(1024)
def _item_words(text: str) -> list[str]:
    return words_of(folded(text))


def _alike(ours: frozenset[str], theirs: frozenset[str]) -> bool:
    """Jaccard at least 4/5, in whole numbers: 0.8 has no exact float."""
    return bool(ours and theirs) and OF * len(ours & theirs) >= NEAR * len(ours | theirs)


def _grams(words: list[str]) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(words[i : i + LONGEST_RUN]) for i in range(len(words) - LONGEST_RUN + 1))


def _line(words: list[str]) -> str:
    return f" {' '.join(words)} "
