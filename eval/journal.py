"""Answers as they come, on disk: an evaluation that was killed goes on where it stood."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.costs import Cost
from eval.record import Prediction
from pipeline.core.errors import DataError


class Journal:
    """One file of JSON lines: what is asked, then each batch of answers with its cost.

    A line that was torn when the process died is dropped; so is all that was asked under
    another key.
    """

    def __init__(self, path: Path, key: str) -> None:
        """Opens or begins the journal.

        Args:
            path: its file; the folder exists.
            key: tells what is asked; a journal of another key is begun anew.
        """
        self.path = path
        self._done: dict[str, Prediction] = {}
        self._cost: Cost | None = None
        whole = 0
        for end, line in _lines(path):
            if not whole and line != {"key": key}:
                break
            if whole:
                self._take(line)
            whole = end
        if path.exists():
            os.truncate(path, whole)
        if not whole:
            self._write({"key": key})

    def done(self) -> dict[str, Prediction]:
        """Answers so far by the item's id."""
        return dict(self._done)

    @property
    def cost(self) -> Cost | None:
        """What they cost; None before the first that told."""
        return self._cost

    def add(self, predictions: Sequence[Prediction], cost: Cost | None = None) -> None:
        """Appends one batch; it is on disk when this returns."""
        line = {
            "predictions": [asdict(prediction) for prediction in predictions],
            "cost": None if cost is None else asdict(cost),
        }
        self._write(line)
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        self._done |= {row["example_id"]: Prediction(**row) for row in line["predictions"]}
        if line["cost"] is not None:
            spent = Cost(**line["cost"])
            self._cost = spent if self._cost is None else self._cost.plus(spent)

    def _write(self, line: dict[str, Any]) -> None:
        try:
            text = json.dumps(line, ensure_ascii=False, allow_nan=False)
        except ValueError:
            ids = [row["example_id"] for row in line["predictions"]]
            raise DataError(
                f"{self.path}: a score of {ids[0]} to {ids[-1]} is no number; "
                "look at the model, its weights or its precision"
            ) from None
        with self.path.open("a", encoding="utf-8", newline="\n") as out:
            out.write(text + "\n")
            out.flush()
            os.fsync(out.fileno())


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole lines and where each ends, in bytes, up to the first that is torn."""
    if not path.exists():
        return
    end = 0
    with path.open("rb") as lines:
        for line in lines:
            end += len(line)
            try:
                found = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n") or not isinstance(found, dict):
                return
            yield end, found
