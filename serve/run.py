"""`gradus serve`: engines, the gateway before them, and nothing left behind at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import UserError
from serve.addresses import engine_address
from serve.assembly import (
    Serving,
    door_of,
    engines_of,
    followed,
    following_of,
    releases_of,
    stand_for,
)
from serve.bundle import Bundle
from serve.engine import Engine
from serve.listening import bind, shown_url
from serve.open_files import kept_open, ring_of
from serve.supervisor import Supervisor
from serve.telling import tell
from serve.whole import read_whole

if TYPE_CHECKING:
    import uvicorn

    from serve.following import Following
    from serve.gateway.door import Door

KEY_VARIABLE = "GRADUS_API_KEY"


def serve(
    bundle_path: Path, settings: Serving | None = None, echo: Callable[[str], None] = print
) -> int:
    """Serve a bundle until ctrl-C or SIGTERM; call it from the main thread.

    Args:
        bundle_path: the bundle's folder.
        settings: how; the defaults serve on loopback without keys.
        echo: told each step and, once ready, a curl line that works.

    Returns:
        0 when it was stopped on request.

    Raises:
        UserError: the bundle, the host, the port or a file will not do.
        IntegrityError: the bundle is not what was made.
        EngineError: an engine is missing or does not start.
    """
    import uvloop

    told = settings or Serving()
    require_door(told)
    keyed = told.api_key is not None or told.keys is not None
    bundle = read_whole(bundle_path, echo)
    # Before the engine's minute: a port in use or a file that will not do should say so at once.
    with (
        bind(told.host, told.port) as listener,
        _stoppable(),
        kept_open(bundle, told, tell) as kept,
    ):
        known = releases_of(bundle, told, echo)
        engines = engines_of(bundle, told, known)
        releases = followed(bundle, engines, known, echo)
        supervisor = Supervisor(engines, tell)
        try:
            _start(bundle, engines, echo)
            if known is not None:
                stand_for(known, bundle, echo)
            door = door_of(bundle, engines, told, supervisor, kept)
            following = following_of(bundle, engines, releases, door, supervisor)
            url = shown_url(told.host, listener.getsockname()[1])
            ready = _ready_text(bundle, url, keyed=keyed)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(
                    _run(door, supervisor, following, listener, told.drain_s, lambda: echo(ready))
                )
        except KeyboardInterrupt:
            pass
        finally:
            # A second ctrl-C must not break the stopping.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            supervisor.stop()
    echo("stopped")
    return 0


def require_door(told: Serving) -> None:
    """Passes where a gateway could be opened so; nothing is made, started or kept open.

    Raises:
        UserError: a host that others reach without keys, keys that are none, no engine's address.
    """
    from serve.gateway.host import is_loopback

    if not is_loopback(told.host) and told.api_key is None and told.keys is None:
        raise UserError(
            f"--host {told.host}: reachable from outside; give --keys or --api-key, or 127.0.0.1"
        )
    ring_of(told.api_key, told.keys, tell)
    for url in told.engine_urls:
        engine_address(url)


def _start(bundle: Bundle, engines: list[Engine], echo: Callable[[str], None]) -> None:
    if bundle.ungated:
        echo(f"bundle {bundle.name} is UNGATED: its gates were overridden")
    if engines[0].name != "vllm" and bundle.engine.stated():
        echo(f"serve.engine is for vLLM, and not used: {', '.join(bundle.engine.stated())}")
    for engine in engines:
        names = ", ".join(engine.models)
        echo(f"starting {engine.name}: {names}")
        engine.start()
        echo(f"engine log: {engine.log_path}")
    for engine in engines:
        engine.wait_ready()
    # The gateway's libraries come with it: not before they are needed.
    from serve.parity import announce

    announce(bundle, engines, echo)
    if bundle.heads and len(engines) == 1:
        heads = ", ".join(head.name for head in bundle.heads)
        echo(f"not served: {heads}; heads need vLLM (`gradus engine install`)")


async def _run(
    door: Door,
    supervisor: Supervisor,
    following: Following | None,
    listener: socket.socket,
    drain_s: float,
    ready: Callable[[], None],
) -> None:
    server = _server(door)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    watching = [asyncio.create_task(supervisor.watch())]
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        for group in door.directory.groups():
            await group.look()
        if following is not None:
            await following.begin()
            watching.append(asyncio.create_task(following.follow()))
        if server.started:
            ready()
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        # Whoever balances the load sees it first; what runs is let finish.
        door.draining = True
        stop.clear()
        await _drained(door, stop, drain_s)
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        server.should_exit = True
        await serving
        # Before the loop waits for its threads: in one of them an engine may be starting.
        await asyncio.to_thread(supervisor.stop)


async def _drained(door: Door, again: asyncio.Event, drain_s: float) -> None:
    """Until nothing is under way, the time is over, or a second signal comes."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + drain_s
    while door.in_flight and loop.time() < ends and not again.is_set():
        await asyncio.sleep(0.05)


def _server(door: Door) -> uvicorn.Server:
    import uvicorn

    from serve.gateway.app import create_app
    from serve.gateway.wire import Wire

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Signals are ours: a drain comes before the stop."""
            yield

    config = uvicorn.Config(
        create_app(door),
        http=Wire,
        ws="none",
        # Below it is a line for each request that is none: whoever sends such would fill the log,
        # and stop the loop where nobody reads it.
        log_level="error",
        access_log=False,
        server_header=False,
        # What others say of a client's address is not looked at.
        proxy_headers=False,
        timeout_graceful_shutdown=2,
        backlog=512,
    )
    return Server(config)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends what ctrl-C ends, in the same way; a shell's ``&`` ignores neither."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ready_text(bundle: Bundle, url: str, *, keyed: bool) -> str:
    body = {
        "model": bundle.models[-1].name,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 32,
        "temperature": 0,
    }
    # The key itself stays out of terminals and logs.
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if keyed else ""
    curl = f"curl -s {url}/v1/chat/completions{key} -H 'Content-Type: application/json'"
    return f"ready: {url}/v1\npage: {url}/\n{curl} -d {shlex.quote(json.dumps(body))}"
