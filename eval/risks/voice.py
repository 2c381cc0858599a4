"""What risks need of a model that answers any text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

NO_VOICE = "this model answers no question in words of its own"
TOO_LONG = "rows that do not fit the model's context are left out"


class Voice(Protocol):
    """A model that writes an answer to whatever it is asked."""

    def fits(self, question: str) -> bool:
        """Whether the question and an answer fit the model's context."""

    def write(self, questions: Sequence[str]) -> list[str]:
        """What it writes to each question, greedily."""

    def score(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Log-probability of each choice as the answer, its end included, in nats."""
