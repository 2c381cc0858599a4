"""Contestants take turns: each trains in a process of its own, and stands still between turns.

A contestant calls ``Turns.updated`` after each of its updates. Once its warm-up is done it waits
there for a word on standard input, goes on for one turn, tells how long that took, waits again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peer import ROOT
from benchmarks.train_case import Case


class Turns:
    """The contestant's side."""

    def __init__(self, case: Case) -> None:
        # What libraries print must not be taken for an answer.
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._updates = self._left = case.updates
        self._began, self._worked = time.perf_counter(), time.process_time()

    def updated(self) -> None:
        """One update is done."""
        self._left -= 1
        if self._left:
            return
        wall, worked = time.perf_counter() - self._began, time.process_time() - self._worked
        self.say(seconds=wall, cpu_seconds=worked)
        if not sys.stdin.readline():
            raise SystemExit("the benchmark has gone")
        self._left = self._updates
        self._began, self._worked = time.perf_counter(), time.process_time()

    def say(self, **told: Any) -> None:
        """One answer."""
        print(json.dumps(told), file=self._answers, flush=True)


class Contestant:
    """The benchmark's side; ``command`` must end by naming its process's own settings."""

    def __init__(self, name: str, command: Sequence[str | Path], threads: int, log: Path) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self._log = log / f"{name}.log"
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            # As gradus runs its stages: threads that wait do not spin.
            "OMP_WAIT_POLICY": "PASSIVE",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        with self._log.open("w") as stream:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )

    def answer(self) -> dict[str, Any]:
        """Its next answer.

        Raises:
            SystemExit: it ended without one.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = self._log.read_text(errors="replace").strip().splitlines()[-3:]
            raise SystemExit(f"{self.name}: ended with {self._process.wait()}: {' | '.join(tail)}")
        told: dict[str, Any] = json.loads(line)
        return told

    def turn(self) -> None:
        """Lets it train for one turn; nobody else does meanwhile."""
        self._word("go")
        told = self.answer()
        self.seconds.append(told["seconds"])
        self.cpu_seconds.append(told["cpu_seconds"])

    def end(self) -> dict[str, Any]:
        """Lets it finish; what it tells last."""
        self._word("end")
        told = self.answer()
        self._process.communicate()
        return told

    def stop(self) -> None:
        """Ends it whatever it is at."""
        self._process.kill()
        self._process.communicate()

    def _word(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
