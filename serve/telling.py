"""What goes wrong while serving, told on stderr: a line when it begins and a line when it is over.

Never at the price of serving: a reader of stderr that has stopped is not waited for, and a disk
that holds no more lines fails nobody.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable

Tell = Callable[[str], None]
_PIPE_BUF = 4096
"""What a pipe that takes anything takes whole (pipe(7))."""
_AGAIN_S = 60.0


def tell(text: str) -> None:
    """Writes lines on stderr, or leaves out what would have to wait. Never raises."""
    data = (text + "\n").encode("utf-8", "replace")
    try:
        place = sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
        for start in range(0, len(data), _PIPE_BUF):
            if not select.select([], [place], [], 0)[1]:
                return
            os.write(place, data[start : start + _PIPE_BUF])
    except (OSError, ValueError):
        # Closed, or on the full disk itself.
        return


class Outage:
    """Times in which something cannot be written, and what is lost in them."""

    def __init__(
        self,
        what: str,
        meanwhile: str,
        lost: Tell,
        told: Tell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            what: "usage" or "log".
            meanwhile: what becomes of rows or lines.
            lost: told ``what`` for each that is lost.
            told: gets a line when an outage begins, one when memory is full, and one when it is
                over; of those that begin within a minute of one that was told, none.
        """
        self._what, self._meanwhile, self._count_one, self._told = what, meanwhile, lost, told
        self._clock, self._told_at = clock, float("-inf")
        self._lock = threading.Lock()
        self._under_way = self._full = self._shown = False
        self._lost = 0

    def begins(self, why: str) -> None:
        """It could not be written; may be called each time."""
        if self._under_way:
            return
        self._under_way = True
        self._show(f"cannot be written ({why}); {self._meanwhile}", always=self._shown)

    def loses(self, count: int = 1, full: str | None = None) -> None:
        """So many are not kept; ``full``: because memory holds no more of them."""
        for _ in range(count):
            self._count_one(self._what)
        with self._lock:
            self._lost += count
        if full is not None and not self._full:
            self._full = True
            self._show(f"{full}; what comes now is lost", always=self._shown)

    def ends(self) -> None:
        """It was written; costs nothing where there is no outage."""
        if not (self._under_way or self._full):
            return
        with self._lock:
            shown, lost = self._shown, self._lost
            self._under_way = self._full = self._shown = False
            if shown:
                self._lost = 0
        if shown:
            self._told(f"{self._what}: is written again; {lost} lost")

    def closes(self, left: int) -> None:
        """Nothing is written any more, and so many are left."""
        if left:
            self.loses(left)
        if self._lost:
            self._told(f"{self._what}: over; {self._lost} lost")
            self._lost = 0

    def _show(self, text: str, *, always: bool = False) -> None:
        with self._lock:
            now = self._clock()
            due = always or now - self._told_at >= _AGAIN_S
            if due:
                self._told_at, self._shown = now, True
        if due:
            self._told(f"{self._what}: {text}")
