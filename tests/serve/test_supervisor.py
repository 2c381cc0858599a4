"""Engines that fall are started again, later each time; a stop waits for no start."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import EngineError, UserError
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
    no_room: int = 0

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        return body

    def start(self) -> None:
        self.starts.append(time.monotonic())
        if self.no_room:
            self.no_room -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
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


async def back_after_a_fall(watched: Supervisor, engine: Falling) -> None:
    back: list[bool] = []
    watched.restarted = lambda: back.append(True)
    watching = asyncio.create_task(watched.watch())
    engine.up = False
    while not back:
        assert not watching.done()
        await asyncio.sleep(0.01)
    watching.cancel()


def run_it(made: Callable[[], Any]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(made(), 20)

    asyncio.run(bounded())


def test_one_that_answers_again_does_not_count_before_it_is_checked() -> None:
    engine, seen = Falling(starts_s=0.1), list[tuple[bool, bool]]()
    watched = Supervisor([engine], lambda _text: None)

    def check(one: Any) -> None:
        assert one is engine
        time.sleep(0.1)
        seen.append((engine.alive(), watched.counts(engine) or watched.alive()))

    watched.checked = check
    assert watched.counts(engine)
    run_it(lambda: back_after_a_fall(watched, engine))
    assert seen == [(True, False)]
    assert watched.counts(engine)
    assert watched.alive()


@pytest.mark.parametrize("kind", [EngineError, UserError])
def test_one_that_is_another_than_before_is_told_ended_and_never_counts(kind: Any) -> None:
    engine, said, counted = Falling(), list[str](), list[bool]()
    watched = Supervisor([engine], said.append)
    checks: list[float] = []

    def check(_one: Any) -> None:
        counted.append(watched.alive())
        checks.append(time.monotonic())
        if len(checks) < 3:
            raise kind("parity: demo-l2: other weights")

    watched.checked = check
    run_it(lambda: back_after_a_fall(watched, engine))
    assert counted == [False] * 3
    assert sum("parity: demo-l2: other weights" in text for text in said) == 2
    # Later each time, and from a fresh process.
    assert len(engine.starts) == 3
    assert checks[2] - checks[1] > checks[1] - checks[0]
    assert said[-1].endswith("is back")


def test_a_full_disk_at_a_start_is_told_and_tried_again() -> None:
    engine, said = Falling(no_room=2), list[str]()
    watched = Supervisor([engine], said.append)
    run_it(lambda: back_after_a_fall(watched, engine))
    assert len(engine.starts) == 3
    assert sum("No space left on device" in text for text in said) == 2
    assert watched.alive()


def test_nobody_who_reads_what_is_told_keeps_no_engine_down() -> None:
    engine = Falling()

    def gone(_text: str) -> None:
        raise BrokenPipeError

    watched = Supervisor([engine], gone)
    run_it(lambda: back_after_a_fall(watched, engine))
    assert watched.alive()


def test_waits_grow_also_after_a_long_steady_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEADY_S", 0.05)
    engine = Falling(fails=3)
    watched = Supervisor([engine], lambda _text: None)

    async def run() -> None:
        watching = asyncio.create_task(watched.watch())
        await asyncio.sleep(0.2)
        watching.cancel()
        await back_after_a_fall(watched, engine)

    run_it(run)
    waits = [b - a for a, b in zip(engine.starts, engine.starts[1:], strict=False)]
    for wait, least in zip(waits, (0.2, 0.4, 0.8), strict=True):
        assert least <= wait < least + 0.7


def test_one_that_hangs_at_its_start_is_ended_before_the_next_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, stops = Falling(), list[bool]()
    stop = engine.stop
    hangs = [True]

    def wait_ready(timeout_s: float = 60.0) -> None:
        if hangs.pop() if hangs else False:
            raise EngineError("not ready in time")

    monkeypatch.setattr(engine, "wait_ready", wait_ready)
    monkeypatch.setattr(engine, "stop", lambda: (stops.append(engine.up), stop()))
    watched = Supervisor([engine], lambda _text: None)
    run_it(lambda: back_after_a_fall(watched, engine))
    assert len(engine.starts) == 2
    # Running, when it was ended for having hung.
    assert True in stops
