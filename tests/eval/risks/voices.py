"""A model that says what a test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass
class Said:
    """Writes what ``writes`` makes of a question; prefers the choice ``prefers``.

    Attributes:
        longest: characters of the longest question that fits.
    """

    writes: Callable[[str], str] = lambda _question: ""
    prefers: str = ""
    longest: int = 1 << 30

    def fits(self, question: str) -> bool:
        return len(question) <= self.longest

    def write(self, questions: Sequence[str]) -> list[str]:
        return [self.writes(question) for question in questions]

    def score(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        return [[0.0 if choice == self.prefers else -1.0 for choice in mine] for mine in choices]
