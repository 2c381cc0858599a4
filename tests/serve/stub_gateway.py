"""A gateway before the stub engine, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import uvicorn
from aiohttp import web
from stub_engine import Stub, stub_app

from serve.gateway.app import create_app
from serve.gateway.directory import Route, Table
from serve.gateway.door import Door
from serve.gateway.upstreams import Upstream, UpstreamGroup
from serve.gateway.wire import Wire


@dataclass
class Running:
    """One gateway and its stub."""

    url: str
    port: int
    door: Door
    stub: Stub
    loop: Any

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=20)


def card(name: str, task: str = "chat") -> dict[str, Any]:
    metadata = {"level": name[-2:].upper(), "base": None, "version": "c0ffee11", "task": task}
    return {"id": name, "object": "model", "created": 1, "owned_by": "gradus", "metadata": metadata}


@contextlib.contextmanager
def serving_stub(stub: Stub) -> Iterator[int]:
    """The stub on a port of its own, in a thread."""
    ready, port, box = threading.Event(), free_port(), {}

    async def run() -> None:
        runner = web.AppRunner(stub_app(stub), handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        box["stop"], box["loop"] = asyncio.Event(), asyncio.get_running_loop()
        ready.set()
        await box["stop"].wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield port
    finally:
        box["loop"].call_soon_threadsafe(box["stop"].set)
        thread.join(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving_door(door: Door, stub: Stub) -> Iterator[Running]:
    """A gateway on a port of its own, in a thread, as `gradus serve` runs it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(door), http=Wire, ws="none", log_level="critical",
        access_log=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    box: dict[str, Any] = {}

    async def run() -> None:
        box["loop"] = asyncio.get_running_loop()
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    port = listener.getsockname()[1]
    try:
        yield Running(f"http://127.0.0.1:{port}", port, door, stub, box["loop"])
    finally:
        server.should_exit = True
        thread.join(10)


NAMES = ("demo-l0", "demo-l1", "demo-l2")


@contextlib.contextmanager
def before_stub(
    stub: Stub, public: dict[str, str] | None = None, *, alone: bool = False, **more: Any
) -> Iterator[Running]:
    """A gateway before a stub; ``public`` maps public names to the stub's."""
    with serving_stub(stub) as port:
        upstream = Upstream(f"http://127.0.0.1:{port}", scores_alone=alone)
        group = UpstreamGroup([upstream])
        routes = [
            Route(name, "c0ffee11", card(name), group, served, served)
            for name, served in (public or {name: name for name in NAMES}).items()
        ]
        door = Door(directory=Table(routes), **more)
        with serving_door(door, stub) as running:
            yield running
        for kept in (door.log, door.usage):
            if kept is not None:
                kept.close()
