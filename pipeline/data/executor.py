"""What runs the map steps of `prepare`: this process, or several of this machine.

The seam for a cluster engine: a step is a picklable function of one item, knows nothing of the
items around it, and its results come back in the order of the items. Whatever keeps that order
(Ray Data's ``map_batches`` with ``preserve_order``) can stand here.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from pipeline.core.errors import StoreError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 3
_PR_SET_PDEATHSIG = 1


class Executor(Protocol):
    """Maps a step over items."""

    def map(self, step: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, whatever the number of workers.

        At most a few items for each worker are in memory at once.
        """


class InProcess:
    """One after the other, here."""

    def map(self, step: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items."""
        return map(step, items)


class Processes:
    """Worker processes of this machine, forked: what is loaded before is shared with them."""

    def __init__(self, workers: int) -> None:
        """Starts ``workers`` processes at the first use."""
        _collect_seldom()
        self._workers = workers
        self._pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_die_with,
            initargs=(os.getpid(),),
        )

    def map(self, step: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items.

        Raises:
            StoreError: a worker died, as under a kernel short of memory.
        """
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(step, item))
                if len(waiting) >= self._workers * AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise StoreError(
                "a worker process of prepare died (the kernel may be short of memory); "
                "run again with fewer --jobs"
            ) from None
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Ends the workers."""
        self._pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def executor(workers: int) -> Iterator[Executor]:
    """An executor with ``workers`` processes; one worker is this process itself."""
    if workers <= 1:
        yield InProcess()
        return
    processes = Processes(workers)
    try:
        yield processes
    finally:
        processes.close()


def _die_with(parent: int) -> None:
    """A worker goes when its parent goes, however it goes, and leaves ctrl-C to it."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != parent:
        os._exit(1)
    _collect_seldom()


def _collect_seldom() -> None:
    # Rows make no cycles: the collector would walk what is loaded or forked again and again.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
