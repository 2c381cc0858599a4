"""Engines that fall are started again, later each time; a stop waits for no start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import EngineError
from serve import supervisor as module
from serve.supervisor import Supervisor


@dataclass
class Falling:
    """An engine that is nothing but its state."""

    starts_s: float = 0.0
    fails: int = 0
    name: str = "stub"
    base_url: str = "http://127.0.0.1:1"
    log_path: Path | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    echoes: Mapping[str, str] = field(default_factory=dict)
    up: bool = True
    starts: list[float] = field(default_factory=list)

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        return body

    def start(self) -> None:
        self.starts.append(time.monotonic())
        self.up = True

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        ends = time.monotonic() + self.starts_s
        while time.monotonic() < ends and self.up:
            time.sleep(0.01)
        if self.fails:
            self.fails -= 1
            self.up = False
        if not self.up:
            raise EngineError("died at start")

    def alive(self) -> bool:
        return self.up

    def log_tail(self) -> str:
        return "its last words"

    def stop(self) -> None:
        self.up = False


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.1)


def test_one_that_falls_is_back_and_its_last_words_are_told() -> None:
    engine, said, back = Falling(), list[str](), list[bool]()
    watched = Supervisor([engine], said.append)
    watched.restarted = lambda: back.append(True)

    async def run() -> None:
        watching = asyncio.create_task(watched.watch())
        engine.up = False
        assert not watched.alive()
        while not back:
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(asyncio.wait_for(run(), 10))
    assert watched.alive()
    assert len(engine.starts) == 1
    assert "its last words" in said[0]
    assert said[-1].endswith("is back")


def test_each_wait_is_twice_the_last_one() -> None:
    engine, back = Falling(fails=3), list[bool]()
    watched = Supervisor([engine], lambda _text: None)
    watched.restarted = lambda: back.append(True)

    async def run() -> None:
        watching = asyncio.create_task(watched.watch())
        engine.up = False
        while not back:
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(asyncio.wait_for(run(), 20))
    waits = [b - a for a, b in zip(engine.starts, engine.starts[1:], strict=False)]
    assert len(waits) == 3
    for wait, least in zip(waits, (0.2, 0.4, 0.8), strict=True):
        assert least <= wait < least + 0.7


def test_a_stop_does_not_wait_for_an_engine_that_is_starting() -> None:
    engine = Falling(starts_s=60.0)
    watched = Supervisor([engine], lambda _text: None)

    async def run() -> None:
        watching = asyncio.create_task(watched.watch())
        engine.up = False
        while not engine.starts:
            await asyncio.sleep(0.01)
        watching.cancel()
        await asyncio.to_thread(watched.stop)

    began = time.monotonic()
    # The loop's end waits for its threads, as the gateway's does.
    asyncio.run(run())
    assert time.monotonic() - began < 5
    assert not engine.up


def test_nothing_is_started_after_the_stop() -> None:
    engine = Falling()
    watched = Supervisor([engine], lambda _text: None)

    async def run() -> None:
        watching = asyncio.create_task(watched.watch())
        engine.up = False
        await asyncio.sleep(0.05)
        await asyncio.to_thread(watched.stop)
        await asyncio.sleep(0.3)
        watching.cancel()

    asyncio.run(run())
    assert engine.starts == []
