"""Answers as they come, on disk: an evaluation that was killed goes on where it stood."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.costs import Cost
from eval.record import Prediction
from pipeline.core.digest import text_digest
from pipeline.core.errors import DataError, StoreError

_LOCK = ".lock"


class Journal:
    """One file of JSON lines: what is asked, then each batch of answers with its cost.

    A line that was torn when the process died is dropped. Each key has a file of its own: what
    was asked under another stays where it is.

    Attributes:
        path: its file.
        written_at: when the answers that it was opened with were written, in seconds since the
            epoch; None where it held none.
    """

    def __init__(self, path: Path, key: str) -> None:
        """Opens or begins the journal.

        Args:
            path: its file, before a digest of the key is put into the name; the folder exists.
            key: tells what is asked.
        """
        self.path = path.with_name(f"{path.stem}-{text_digest(key)[:8]}{path.suffix}")
        self.written_at: float | None = None
        self._key = key
        self._done: dict[str, Prediction] = {}
        self._cost: Cost | None = None
        whole = 0
        for end, line in _lines(self.path):
            if not whole and line != {"key": key}:
                break
            if whole:
                self._take(line)
            whole = end
        if self._done:
            self.written_at = self.path.stat().st_mtime
        if self.path.exists():
            os.truncate(self.path, whole)
        if not whole:
            self._write({"key": key})

    def begin_anew(self) -> None:
        """Forgets every answer."""
        os.truncate(self.path, 0)
        self._done, self._cost, self.written_at = {}, None, None
        self._write({"key": self._key})

    def remove(self) -> None:
        """Takes the file away: what it kept stands elsewhere."""
        self.path.unlink(missing_ok=True)

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


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder of journals; the kernel frees it when one dies.

    Raises:
        StoreError: another process holds it.
    """
    with (folder / _LOCK).open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"{folder}: another `gradus eval` writes its answers here; wait until it has "
                "ended, or give another --out"
            ) from None
        yield


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
