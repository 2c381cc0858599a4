"""What contamination is: three tests by which a training row knows a test item.

1. ``exact``: equal after ``letters_and_digits`` (NFKC, casefold, letters and digits only).
2. ``near``: Jaccard of at least 0.8 over the sets of character 5-grams, after NFKC and casefold,
   with every run of non-word characters made one space and none at the ends; a text under five
   characters has none and is judged by ``exact`` only. Lee et al. 2022 (Deduplicating Training
   Data Makes Language Models Better, section 4.2) take 0.8 over word 5-grams; characters serve
   one-line questions and Chinese too.
3. ``contained``: the item stands inside a longer row: an answer, a document, any turn. GPT-3
   (Brown et al. 2020, appendix C) looks for 13-grams of words, PaLM (Chowdhery et al. 2022,
   section 8) for 70 % of an item's 8-grams in its training data, Llama 2 (Touvron et al. 2023,
   appendix A.6) for matched runs above 10 tokens that cover 20 % or 80 % of an item. We take
   n = min(13, tokens of the item), and at least 0.8 of the item's distinct n-grams in ONE row:
   up to 13 tokens an item must stand as one run, and longer ones may differ somewhere. Tokens
   are words, and single characters in scripts without spaces (Chinese, Japanese, Thai, ...).

   Below a floor a run says nothing: "hi" stands in every document. An item has to weigh 8,
   where a word weighs 2 and a single character 1: four words, or eight characters of Chinese
   (GPT-3 used 8 words as its least n, which would pass over a quarter of Banking77). And it has
   to have 16 letters, where a single character counts as two: "what is it to" is in any text.
   Measured: of 273 pairs that only this test finds in Banking77, 86 % have the same label; no
   Banking77 question is found in 452 documents of C4 and Wikipedia.

An item whose question stands on a passage (TAT-QA, SQuAD) has the passage apart as
``Item.context``; where nobody gave it, what several items of a set begin with is taken for it
(``with_passages``). A row that has the passage with another question is no copy of the item:
GPT-3 (section 4) found that such overlaps give background only, not the answer. So ``near`` asks
in addition for Jaccard 0.8 of what is left when the passage's 5-grams are taken from both sides,
and ``contained`` for the passage as above, and for the question as one run (or 0.8 of its
13-grams) beside it, however short. A training row that holds the passage alone is not counted.

An item is all that the model is asked: system text, earlier turns, the last one. A row that has
one of its user turns alone knows it too; see ``contamination_views`` for when a turn counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from pipeline.data.contamination_weight import weighs
from pipeline.data.rows import row_text, whole_text

Kind = Literal["exact", "near", "contained"]
# From here on a suite is no longer touched by a few rows: the recipe trains on it.
TRAINED_SHARE = 0.5
# Characters of a passage; a shorter one is taken as part of the question.
LEAST_PASSAGE = 40
# Where everything is a copy of everything, rows times items would fill memory and disk.
MOST_HITS = 16


@dataclass(frozen=True, slots=True)
class Item:
    """One example of an evaluation set.

    Attributes:
        suite: the evaluation set's name.
        id: the example's id.
        text: what is asked; without the passage where ``context`` has it.
        context: a passage that other questions may share; empty where there is none.
        also: further texts by which the item is known: all that is asked first, where ``text``
            is a part of it, then single turns. One hit names the item whichever of them it is.
    """

    suite: str
    id: str
    text: str
    context: str = ""
    also: tuple[str, ...] = ()

    @property
    def whole(self) -> str:
        """Passage and question, as a model is given them."""
        return f"{self.context}\n{self.text}" if self.context else self.text


@dataclass(frozen=True, slots=True)
class Hit:
    """A training row that knows a test item.

    Attributes:
        row: position among the rows that were given.
        item: position in the index.
        kind: the first of exact, near, contained that holds.
        score: 1 for exact, the Jaccard index for near, the share of n-grams for contained (of
            the passage's, where the item has one).
        more: further items that the row knows and that are not kept as hits.
    """

    row: int
    item: int
    kind: Kind
    score: float
    more: int = 0


class RowTexts(NamedTuple):
    """A training row as the gate sees it.

    Attributes:
        id: the row's id.
        recognised: judged by exact and near: the row's own text (user turns without the
            answer, the recipe's prompt taken off); where that is not all that the model is
            given, all of it (system text, earlier answers); then each user turn by itself where
            a conversation has several, and the system text where no user turn weighs anything.
            Such a part counts only where the item weighs enough to be contained: "thanks" is in
            every conversation.
        whole: judged by containment: all that the row says, answers too.
    """

    id: str
    recognised: tuple[str, ...]
    whole: str


# Places in ``recognised`` from which on parts of a row stand.
FIRST_PART = 2


def row_texts(row: Mapping[str, Any]) -> RowTexts:
    """What the gate keeps of a canonical row."""
    return RowTexts(str(row["id"]), _recognised(row), whole_text(row))


def _recognised(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "messages" not in row:
        return (row_text(row),)
    said = [(str(m["role"]), str(m.get("content") or "")) for m in row["messages"]]
    labelled = bool(row.get("label") is not None or "labels" in row)
    if not labelled:
        # What is learned or compared is no part of what is asked.
        while said and said[-1][0] == "assistant":
            said.pop()
    if row.get("source_text"):
        last = max((i for i, (role, _) in enumerate(said) if role == "user"), default=None)
        if last is not None:
            said[last] = ("user", str(row["source_text"]))
    system = "\n".join(text for role, text in said if role == "system" and text)
    asked = "\n".join(text for _, text in said if text)
    if labelled and said and said[-1][0] == "assistant":
        # The reply is what has its class: the turns before it are no item by themselves.
        own = "\n".join(text for role, text in said if role != "system" and text)
        return (own,) if own == asked else (own, asked)
    turns = list(dict.fromkeys(text for role, text in said if role == "user"))
    parts = turns if len(turns) > 1 else []
    if system and not any(map(weighs, turns)):
        parts.append(system)
    own = row_text(row)
    return (own, asked, *parts) if parts or own != asked else (own,)


def item_of_row(suite: str, name: str, recognised: Sequence[str]) -> Item:
    """The item of an evaluation set that a row is, by ``RowTexts.recognised``."""
    return Item(suite, name, recognised[0], also=tuple(recognised[1:]))


class KeptHits:
    """Bounds what is kept: MOST_HITS for each row and for each item.

    A hit is left out only where its row and its item have so many already, so each row and each
    item that has a hit keeps one. One object goes with one pass over the rows.
    """

    def __init__(self) -> None:
        """Starts with no hits."""
        self._rows: Counter[int] = Counter()
        self._items: Counter[int] = Counter()

    def room(self, row: int, item: int) -> bool:
        """Whether a hit of the two would be kept."""
        return self._rows[row] < MOST_HITS or self._items[item] < MOST_HITS

    def count(self, row: int, item: int) -> None:
        """Counts a hit that is kept."""
        self._rows[row] += 1
        self._items[item] += 1

    def keep(self, hits: Iterable[Hit]) -> list[Hit]:
        """The hits that are kept; the last one of a row says how many of its others are not."""
        found: list[Hit] = []
        last: dict[int, int] = {}
        left: Counter[int] = Counter()
        for hit in hits:
            if self.room(hit.row, hit.item):
                self.count(hit.row, hit.item)
                last[hit.row] = len(found)
                found.append(hit)
            else:
                left[hit.row] += 1 + hit.more
        for row, more in left.items():
            place = last[row]
            found[place] = replace(found[place], more=found[place].more + more)
        return found


def with_passages(items: Sequence[Item]) -> list[Item]:
    """Items with the passage apart that they begin with as another item of their set does.

    It ends with a line, has LEAST_PASSAGE characters at least, and leaves a question. An item
    that has such a ``context`` already keeps it.
    """
    found = list(items)
    sets: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        if len(item.context) < LEAST_PASSAGE:
            found[index] = replace(item, text=item.whole, context="")
            sets[item.suite].append(index)
    for members in sets.values():
        members.sort(key=lambda index: found[index].text)
        texts = [found[index].text for index in members]
        # Sorted, the longest beginning in common is with a neighbour.
        shared = [0, *map(common_beginning, texts, texts[1:]), 0]
        for place, (index, text) in enumerate(zip(members, texts, strict=True)):
            cut = text.rfind("\n", 0, max(shared[place], shared[place + 1]))
            if cut >= LEAST_PASSAGE and text[cut:].strip():
                found[index] = replace(found[index], context=text[:cut], text=text[cut + 1 :])
    return found


def trains_on_test(found_items: int, total_items: int) -> bool:
    """Whether a recipe trains on its own test set, rather than share a few rows with it.

    Args:
        found_items: different items of one suite with an ``exact`` hit.
        total_items: items of the suite.
    """
    return found_items > 0 and found_items >= TRAINED_SHARE * total_items


def common_beginning(a: str, b: str) -> int:
    """Characters that both begin with, by halving: texts are long, comparing them is not."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a.startswith(b[:middle]):
            low = middle
        else:
            high = middle - 1
    return low
