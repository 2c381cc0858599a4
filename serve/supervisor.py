"""Engines that are ours: started, watched, started again when they fall."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence

from pipeline.core.errors import GradusError
from serve.engine import Engine

WATCH_S = 0.25
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
# One that ran so long before it fell has earned a fresh start.
_STEADY_S = 300.0


class Supervisor:
    """Watches engines until it is told to stop.

    Attributes:
        restarted: told each time one is back.
        checked: asked of one that answers again, before it counts; raises where it is not what
            it was. It has the engine for itself.
    """

    def __init__(self, engines: Sequence[Engine], echo: Callable[[str], None]) -> None:
        """
        Args:
            engines: started and ready.
            echo: told when one falls and when it is back.
        """
        self._engines, self._echo = engines, echo
        self.restarted: Callable[[], None] = lambda: None
        self.checked: Callable[[Engine], None] = lambda _engine: None
        self._stopping = False
        # By identity: what an engine is equal to is its own affair.
        self._away: set[int] = set()
        # A start and the last stop must not pass each other: an engine would be left.
        self._lock = threading.Lock()

    def alive(self) -> bool:
        """Whether all of them count."""
        return all(self.counts(engine) for engine in self._engines)

    def counts(self, engine: Engine) -> bool:
        """Whether it runs and, where it was started again, has been warmed and checked since."""
        return id(engine) not in self._away and engine.alive()

    async def watch(self) -> None:
        """Until cancelled: whoever falls is started again, later each time."""
        await asyncio.gather(*(self._watch(engine) for engine in self._engines))

    async def _watch(self, engine: Engine) -> None:
        wait_s, since, failed = _FIRST_WAIT_S, time.monotonic(), ""
        while not self._stopping:
            await asyncio.sleep(WATCH_S)
            if not failed and engine.alive():
                continue
            self._away.add(id(engine))
            if time.monotonic() - since > _STEADY_S:
                wait_s = _FIRST_WAIT_S
            # One that does not get up has not run long, however long ago it last did.
            since = math.inf
            why = failed or f"fell; its log ends:\n{engine.log_tail()}"
            self._tell(f"engine {engine.name}: again in {wait_s:g} s; {why}")
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            try:
                await asyncio.to_thread(self._again, engine)
            except (GradusError, OSError) as error:
                # OSError: a full disk takes no engine's folder; there may be room next time.
                failed = str(error) or type(error).__name__
                continue
            if self._stopping:
                return
            since, failed = time.monotonic(), ""
            self._away.discard(id(engine))
            self._tell(f"engine {engine.name}: is back")
            self.restarted()

    def _tell(self, text: str) -> None:
        # Nobody who reads, or no room for what is written, must not keep an engine down.
        with contextlib.suppress(OSError, ValueError):
            self._echo(text)

    def _again(self, engine: Engine) -> None:
        with self._lock:
            if self._stopping:
                return
            engine.stop()
            engine.start()
        try:
            # Not held: a stop ends the engine, and with it this wait.
            engine.wait_ready()
            self.checked(engine)
        except BaseException:
            # Whatever runs there does not count, and would be in the way of the next one.
            with self._lock:
                if not self._stopping:
                    engine.stop()
            raise

    def stop(self) -> None:
        """Ends every process, one that is being started too; may be called twice."""
        self._stopping = True
        with self._lock:
            for engine in self._engines:
                engine.stop()
