"""One JSON line for each request; what was said only where that was asked for, and redacted.

A thread writes them, several times a second: a slow disk or a reader of stderr that has stopped
holds no request up. What cannot be written is counted as lost, and told.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from serve.redaction import redacted
from serve.telling import Outage, Tell, tell

_FLUSH_S = 0.1
_WAITING = 20_000
# A body may be a megabyte: so many of them wait, and no more.
_BODIES = 32
_SAID = ("body", "answers")
# Bytes of lines that are written at once; a larger line alone. Of a pipe's 4 KiB, which it takes
# without another's text between them (pipe(7)), one is for the end of a torn line.
_PIPE, _BLOCK = (4 << 10) - 1, 64 << 10
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))
_CLOSING_S = 5.0


class AccessLog:
    """Lines in a file, which may be moved away at any time, or on stderr."""

    def __init__(
        self,
        path: Path | None,
        *,
        prompts: bool = False,
        lost: Callable[[str], None] = lambda _what: None,
        told: Tell = tell,
    ) -> None:
        """
        Args:
            path: the file, which only its owner may read; None: stderr.
            prompts: bodies and classifications are written too, redacted.
            lost: told "log" for each line that could not be written.
            told: gets a line when none can be written and when they can again; not of stderr,
                where it would stand between the lines, or be held up with them.

        Raises:
            UserError: the file cannot be opened.
        """
        self._path, self._prompts = path, prompts
        self._outage = Outage(
            "log", "lines are lost until there is room", lost, told if path else _nobody
        )
        self._at_once = _PIPE if path is None else _BLOCK
        self._waiting: deque[tuple[float, dict[str, Any]]] = deque()
        # Each is changed by one thread only.
        self._bodies_taken, self._bodies_written, self._torn = 0, 0, False
        self._in_hand = 0
        self._asked, self._done = threading.Event(), threading.Condition()
        # Flushes that were asked for, and that were had.
        self._wanted = self._had = 0
        # Around what is counted as waiting, in hand, or lost at the end.
        self._lock = threading.Lock()
        self._stop = self._over = False
        try:
            self._file = self._open()
        except OSError as error:
            raise UserError(f"--access-log {path}: cannot be opened ({error.strerror})") from None
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def write(self, fields: dict[str, Any], said: Mapping[str, Any] | None = None) -> None:
        """Takes one line; returns at once and never raises.

        Args:
            fields: is the log's from now on.
            said: ``body`` and ``answers``, for a log that keeps them.
        """
        if len(self._waiting) >= _WAITING:
            self._outage.loses(full=f"{_WAITING:,} lines wait")
            return
        if self._prompts and said:
            kept = {name: said[name] for name in _SAID if said.get(name)}
            if kept and self._bodies_taken - self._bodies_written < _BODIES:
                self._bodies_taken += 1
                fields |= kept
            elif kept:
                fields["cut"] = "what was said: too much of it waited"
        with self._lock:
            if not self._over:
                self._waiting.append((time.time(), fields))
                return
        self._outage.loses()

    def flush(self, timeout_s: float = _CLOSING_S) -> bool:
        """Whether what was taken until now is written, or counted as lost."""
        with self._done:
            self._wanted += 1
            mine = self._wanted
            self._asked.set()
            return self._done.wait_for(lambda: self._had >= mine, timeout_s)

    def close(self) -> None:
        """Writes what waits, for a few seconds at most, and ends; may be called twice.

        What a held-up writer has in hand is counted as lost, though it may still get through.
        """
        self._stop = True
        self._asked.set()
        self._thread.join(_CLOSING_S)
        with self._lock:
            if self._over:
                return
            # A writer that is still held up finds nothing to do any more.
            self._over, left = True, len(self._waiting) + self._in_hand
            self._waiting.clear()
        self._outage.closes(left)
        if self._path is not None and not self._thread.is_alive():
            os.close(self._file)

    def _open(self) -> int:
        if self._path is None:
            return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _write(self) -> None:
        while True:
            stopping = self._stop
            if self._asked.wait(_FLUSH_S):
                self._asked.clear()
            wanted = self._wanted
            if self._waiting:
                self._follow()
            # Not until there are none: who asks for a flush would wait for a busy server's pause.
            self._keep(len(self._waiting))
            if self._had < wanted:
                with self._done:
                    self._had = wanted
                    self._done.notify_all()
            if stopping:
                return

    def _follow(self) -> None:
        """Opens the file anew where it was moved away, as log rotation does."""
        if self._path is None:
            return
        try:
            now, own = self._path.stat(), os.fstat(self._file)
            if (now.st_ino, now.st_dev) == (own.st_ino, own.st_dev):
                return
        except OSError:
            # It is gone: then a new one is made.
            pass
        try:
            opened = self._open()
        except OSError:
            return
        os.close(self._file)
        self._file, self._torn = opened, False

    def _keep(self, most: int) -> None:
        # Each write gives the interpreter to the others and has to wait for it again.
        lines: list[bytes] = []
        size = 0
        for _ in range(most):
            with self._lock:
                if self._over:
                    return
                taken = self._waiting.popleft()
                self._in_hand += 1
            line = self._line(*taken)
            if line is None:
                self._lose(1)
                continue
            if size + len(line) > self._at_once:
                self._put(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        self._put(lines)

    def _line(self, at: float, fields: Mapping[str, Any]) -> bytes | None:
        made = {"at": round(at, 3), **{n: v for n, v in fields.items() if v is not None}}
        try:
            if self._prompts and not made.keys().isdisjoint(_SAID):
                self._bodies_written += 1
                made = {n: redacted(v) if n in _SAID else v for n, v in made.items()}
            return _ENCODER.encode(made).encode() + b"\n"
        except (ValueError, TypeError, RecursionError):
            return None

    def _put(self, lines: list[bytes]) -> None:
        while lines and not self._over:
            # A line that was torn by a full disk must not swallow the next one.
            mark = b"\n" if self._torn else b""
            try:
                left = os.write(self._file, mark + b"".join(lines)) - len(mark)
            except OSError as error:
                self._outage.begins(error.strerror or type(error).__name__)
                self._lose(len(lines))
                return
            whole = 0
            while whole < len(lines) and left >= len(lines[whole]):
                left -= len(lines[whole])
                whole += 1
            with self._lock:
                self._in_hand -= whole
            lines, self._torn = lines[whole:], left > 0 or (left < 0 and self._torn)
            if left > 0:
                self._outage.begins("the disk took a part of a line")
                self._lose(1)
                lines = lines[1:]
            elif not lines:
                self._outage.ends()

    def _lose(self, count: int) -> None:
        with self._lock:
            if self._over:
                # They were counted when it was closed.
                return
            self._in_hand -= count
        self._outage.loses(count)


def _nobody(_text: str) -> None:
    """Is told and says nothing."""
