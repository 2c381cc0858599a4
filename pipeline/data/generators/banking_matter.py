"""The form in which one matter of the synthetic bank is written down.

Texts are one to a line. ``[a|b]`` stands for a or b, so a few lines hold many sentences.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

_CHOICE = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class Matter:
    """One thing that customers want, and all that is said about it.

    The knowledge base is written from `names` to `remedies`; `train` teaches the task with
    a part of those words, `test` asks with others, and `held_events` and `held_facts` make
    the held-out documents. No line of one purpose stands in another.

    Attributes:
        label: The answer of the classification task, in snake case.
        names: Noun phrases that name the matter in an article.
        terms: Words of the glossary.
        events: Clauses in the first person that a customer might say.
        causes: Clauses that say why it happens.
        remedies: Imperatives that say what to do.
        held_events: As `events`, for held-out documents alone.
        held_facts: Whole sentences, for held-out documents alone.
        train: Phrases of the training rows.
        test: Phrases of the test rows.
    """

    label: str
    names: str
    terms: str
    events: str
    causes: str
    remedies: str
    held_events: str
    held_facts: str
    train: str
    test: str

    @property
    def title(self) -> str:
        """The label in words, as headings name the matter."""
        return self.label.replace("_", " ")


def lines(text: str) -> list[str]:
    """Every line of `text` with every choice made in every way, in a fixed order."""
    return [made for line in text.strip().splitlines() for made in _made(line.strip())]


def _made(line: str) -> list[str]:
    # Odd places of the split hold the choices, even places the fixed text.
    pieces = _CHOICE.split(line)
    options = [piece.split("|") if at % 2 else [piece] for at, piece in enumerate(pieces)]
    return ["".join(chosen) for chosen in itertools.product(*options)]
