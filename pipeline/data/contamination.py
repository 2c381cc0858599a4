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
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from pipeline.data.rows import row_text, whole_text

Kind = Literal["exact", "near", "contained"]
# From here on a suite is no longer touched by a few rows: the recipe trains on it.
TRAINED_SHARE = 0.5
# Characters of a passage; a shorter one is taken as part of the question.
LEAST_PASSAGE = 40


@dataclass(frozen=True, slots=True)
class Item:
    """One example of an evaluation set.

    Attributes:
        suite: the evaluation set's name.
        id: the example's id.
        text: what is asked; without the passage where ``context`` has it.
        context: a passage that other questions may share; empty where there is none.
    """

    suite: str
    id: str
    text: str
    context: str = ""

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
    """

    row: int
    item: int
    kind: Kind
    score: float


class RowTexts(NamedTuple):
    """A training row as the gate sees it.

    Attributes:
        id: the row's id.
        recognised: judged by exact and near: what the model is given without the answer, then
            each user turn by itself where a conversation has several (a turn counts only where
            the item weighs enough to be contained: "thanks" is in every conversation).
        whole: judged by containment: all that the row says, answers too.
    """

    id: str
    recognised: tuple[str, ...]
    whole: str


def row_texts(row: Mapping[str, Any]) -> RowTexts:
    """What the gate keeps of a canonical row."""
    turns = [str(m.get("content") or "") for m in row.get("messages", ()) if m["role"] == "user"]
    several = tuple(dict.fromkeys(turns)) if len(turns) > 1 else ()
    return RowTexts(str(row["id"]), (row_text(row), *several), whole_text(row))


def with_passages(items: Sequence[Item]) -> list[Item]:
    """Items with the passage apart that they begin with as another item of their set does.

    It ends with a line, has LEAST_PASSAGE characters at least, and leaves a question. An item
    that has such a ``context`` already keeps it.
    """
    found = list(items)
    sets: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        if len(item.context) < LEAST_PASSAGE:
            found[index] = Item(item.suite, item.id, item.whole)
            sets[item.suite].append(index)
    for members in sets.values():
        members.sort(key=lambda index: found[index].text)
        texts = [found[index].text for index in members]
        # Sorted, the longest beginning in common is with a neighbour.
        shared = [0, *map(_common, texts, texts[1:]), 0]
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


def _common(a: str, b: str) -> int:
    """Characters that both begin with, by halving: texts are long, comparing them is not."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a.startswith(b[:middle]):
            low = middle
        else:
            high = middle - 1
    return low
