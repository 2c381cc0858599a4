"""A bound of time at the price of one timer: what asyncio.timeout does, without its two awaits."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Deadline:
    """Cancels the task that is inside when the time is over, and raises TimeoutError then."""

    __slots__ = ("_before", "_handle", "_late", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is for a task")
        self._task, self._before, self._late = task, task.cancelling(), False
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._over)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._handle.cancel()
        # Somebody else may have cancelled it too: that goes on.
        if self._late and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _over(self) -> None:
        self._late = True
        self._task.cancel()
