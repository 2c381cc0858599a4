"""`gradus serve`: an engine, the gateway before it, and nothing left behind at the end."""

from __future__ import annotations

import asyncio
import errno
import json
import shlex
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import EngineError, UserError
from serve.bundle import Bundle, read_bundle
from serve.engine import Engine, EngineChoice, choose_engine

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

KEY_VARIABLE = "GRADUS_API_KEY"
_WATCH_S = 0.5


def serve(
    bundle_path: Path,
    *,
    engine: EngineChoice = "auto",
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    echo: Callable[[str], None] = print,
) -> int:
    """Serve a bundle until ctrl-C or SIGTERM; call it from the main thread.

    Args:
        bundle_path: The bundle's folder.
        engine: ``auto`` is vLLM where it is installed, else transformers.
        host: Address to listen on; anything but loopback needs a key.
        port: TCP port; 0 takes a free one.
        api_key: What clients must send as bearer.
        echo: Told each step and, once ready, a curl line that works.

    Returns:
        0 when it was stopped on request.

    Raises:
        UserError: The bundle, the host or the port will not do.
        EngineError: The engine is missing, does not start, or died.
    """
    import uvloop

    from serve.gateway import create_app, is_loopback

    if not is_loopback(host) and not api_key:
        raise UserError(f"--host {host}: reachable from outside; give --api-key, or use 127.0.0.1")
    bundle = read_bundle(bundle_path)
    # Before the engine's minute: a port in use should say so at once.
    with _bind(host, port) as listener, _stoppable():
        chosen = choose_engine(bundle, engine)
        try:
            _start(bundle, chosen, echo)
            app = create_app(bundle, chosen, api_key)
            url = _url(host, listener.getsockname()[1])
            ready = _ready_text(bundle, url, keyed=bool(api_key))
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_run(app, chosen, listener, lambda: echo(ready)))
        except KeyboardInterrupt:
            pass
        finally:
            # A second ctrl-C must not break the stopping.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            chosen.stop()
        echo("stopped")
    return 0


def _start(bundle: Bundle, engine: Engine, echo: Callable[[str], None]) -> None:
    if bundle.ungated:
        echo(f"bundle {bundle.name} is UNGATED: its gates were overridden")
    names = ", ".join(f"{model.name} ({model.level})" for model in bundle.models)
    echo(f"starting {engine.name}: {names}")
    engine.start()
    echo(f"engine log: {engine.log_path}")
    engine.wait_ready()


async def _run(
    app: FastAPI, engine: Engine, listener: socket.socket, ready: Callable[[], None]
) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        http="httptools",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(_served(server, listener))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        ready()
    died = ""
    while not serving.done():
        await asyncio.wait({serving}, timeout=_WATCH_S)
        if not died and not server.should_exit and not engine.alive():
            died = f"engine {engine.name}: died; its log ends:\n{engine.log_tail()}"
            server.should_exit = True
    await serving
    if died:
        raise EngineError(died)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port}: in use on {host}; give another, or 0") from None
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error})") from None
    return listener


async def _served(server: uvicorn.Server, listener: socket.socket) -> None:
    # Uvicorn raises the signal that stopped it once more: a task must not end by it.
    with suppress(KeyboardInterrupt):
        await server.serve(sockets=[listener])


@contextmanager
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


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


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
    return f"ready: {url}/v1\n{curl} -d {shlex.quote(json.dumps(body))}"
