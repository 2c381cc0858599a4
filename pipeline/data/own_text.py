"""Which part of a row is put in other words, and the row with other words in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.data.rows import Row

# As `formats` writes the choices of a question.
_CHOICES = re.compile(r"\nA\. .*\nB\. ", re.DOTALL)


@dataclass(frozen=True)
class OwnText:
    """A row's own text, and where it stands.

    Attributes:
        row: the canonical row.
        turn: index of the message that holds it, or None: it stands in ``text``.
        start, end: where in that text; equal where the row has no text of its own.
    """

    row: Row
    turn: int | None
    start: int
    end: int

    @property
    def text(self) -> str:
        """The text itself; empty where there is none that could be rewritten."""
        return _whole(self.row, self.turn)[self.start : self.end]

    def replaced(self, new: str) -> Row:
        """The row with ``new`` in its place; what stands around it stays to the letter."""
        whole, made = _whole(self.row, self.turn), dict(self.row)
        changed = whole[: self.start] + new + whole[self.end :]
        if self.row.get("source_text"):
            made["source_text"] = self.row["source_text"].replace(self.text, new)
        if self.turn is None:
            return {**made, "text": changed}
        messages = list(self.row["messages"])
        messages[self.turn] = {**messages[self.turn], "content": changed}
        return {**made, "messages": messages}


def own_text(row: Row, form: str = "") -> OwnText:
    """Of a document all; of a talk the user's last turn; never the recipe's prompt.

    Of a question over a passage or with choices it is the question alone, of an alpaca row the
    instruction's first paragraph: what the answer rests on stays as it is.

    Args:
        form: the format of its source, as a recipe names it.
    """
    turns = [i for i, m in enumerate(row.get("messages", ())) if m["role"] == "user"]
    turn = turns[-1] if turns else None
    whole = _whole(row, turn)
    own = str(row.get("source_text") or whole)
    if form == "question_answer":
        choices = _CHOICES.search(own)
        own = own[: choices.start()] if choices else own
        own = own.rstrip().rpartition("\n\n")[2]
    elif form == "alpaca":
        own = own.lstrip().partition("\n\n")[0]
    own = own.strip()
    # Standing twice, it could not be told which of the two is the row's own.
    once = bool(own) and whole.count(own) == 1 and own in str(row.get("source_text") or own)
    start = whole.find(own) if once else 0
    return OwnText(row, turn, start, start + len(own) if once else 0)


def _whole(row: Mapping[str, Any], turn: int | None) -> str:
    found = row.get("text") if turn is None else row["messages"][turn].get("content")
    return found if isinstance(found, str) else ""
