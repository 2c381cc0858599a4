"""Engines that are ours: started, watched, started again when they fall."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from pipeline.core.errors import EngineError
from serve.engine import Engine

WATCH_S = 0.25
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
# One that ran so long before it fell has earned a fresh start.
_STEADY_S = 300.0


class Supervisor:
    """Watches engines until it is told to stop."""

    def __init__(self, engines: Sequence[Engine], echo: Callable[[str], None]) -> None:
        """
        Args:
            engines: started and ready.
            echo: told when one falls and when it is back.
        """
        self._engines, self._echo = engines, echo
        # Told each time one is back.
        self.restarted: Callable[[], None] = lambda: None
        self._stopping = False
        # A start and the last stop must not pass each other: an engine would be left.
        self._lock = threading.Lock()

    def alive(self) -> bool:
        """Whether all of them run."""
        return all(engine.alive() for engine in self._engines)

    async def watch(self) -> None:
        """Until cancelled: whoever falls is started again, later each time."""
        await asyncio.gather(*(self._watch(engine) for engine in self._engines))

    async def _watch(self, engine: Engine) -> None:
        wait_s, since = _FIRST_WAIT_S, time.monotonic()
        while not self._stopping:
            await asyncio.sleep(WATCH_S)
            if engine.alive():
                continue
            if time.monotonic() - since > _STEADY_S:
                wait_s = _FIRST_WAIT_S
            tail = engine.log_tail()
            self._echo(f"engine {engine.name}: fell; again in {wait_s:g} s; its log ends:\n{tail}")
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            with contextlib.suppress(EngineError):
                await asyncio.to_thread(self._again, engine)
                if self._stopping:
                    return
                since = time.monotonic()
                self._echo(f"engine {engine.name}: is back")
                self.restarted()

    def _again(self, engine: Engine) -> None:
        with self._lock:
            if self._stopping:
                return
            engine.stop()
            engine.start()
        # Not held: a stop ends the engine, and with it this wait.
        engine.wait_ready()

    def stop(self) -> None:
        """Ends every process, one that is being started too; may be called twice."""
        self._stopping = True
        with self._lock:
            for engine in self._engines:
                engine.stop()
