"""Answers of a model on disk, so that a run that was killed does not pay for them again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What came back for one request.

    Attributes:
        text: what the model wrote; None where there is none.
        finish: ``stop``, ``length``, ``content_filter``, ...
        problem: why there is no text; such an answer is asked for again by the next run.
    """

    text: str | None = None
    finish: str | None = None
    problem: str | None = None


class Journal:
    """Answers by request, each appended as it comes; a line that a kill has torn is left out."""

    def __init__(self, path: Path) -> None:
        """Reads what an earlier run has been answered."""
        self._known: dict[str, int] = {}
        whole = 0
        path.touch()
        self._file = path.open("r+b")
        for line in self._file:
            if line.endswith(b"\n"):
                found = _entry(line)
                if found is not None:
                    self._known[found["request"]] = whole
                whole += len(line)
        self._file.truncate(whole)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._file.close()

    def get(self, request: str) -> Answer | None:
        """The answer to a request, by its digest, or None."""
        if request not in self._known:
            return None
        self._file.seek(self._known[request])
        found = _entry(self._file.readline())
        return None if found is None else Answer(found["text"], found["finish"])

    def add(self, request: str, answer: Answer) -> None:
        """Keeps an answer that has a text."""
        entry = {"request": request, "text": answer.text, "finish": answer.finish}
        self._known[request] = self._file.seek(0, 2)
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    fits = isinstance(found, dict) and {"request", "text", "finish"} <= found.keys()
    return found if fits else None
