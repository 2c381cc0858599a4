"""Our gateway as `gradus serve` runs it, before an upstream that is given, everything switched on.

python -m benchmarks.gateway_ours PORT UPSTREAM FOLDER MODEL

A file of keys with limits, usage in SQLite, an access log, metrics: all in FOLDER.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serve.gateway.door import Door

KEYS, USAGE, LOG = "keys.json", "usage.db", "access.log"


def make_key(folder: Path) -> str:
    """A key whose limits are kept and never reached; its token."""
    from serve.keys import add_key

    token, _ = add_key(
        folder / KEYS, "benchmark", rpm=10_000_000, tpm=1_000_000_000_000, concurrency=10_000
    )
    return token


def door(upstream: str, folder: Path, model: str) -> Door:
    """The gateway for one model of one engine."""
    from serve.access_log import AccessLog
    from serve.gateway.directory import Route, Table
    from serve.gateway.door import Door
    from serve.gateway.upstreams import Upstream, UpstreamGroup
    from serve.keys import KeyFile
    from serve.limits import Limiter
    from serve.metrics import Metrics
    from serve.usage import UsageStore

    metadata = {"level": "L0", "base": None, "version": "c0ffee11", "task": "chat"}
    card = {"id": model, "object": "model", "created": 1, "owned_by": "gradus"}
    group = UpstreamGroup([Upstream(upstream)])
    route = Route(model, "c0ffee11", {**card, "metadata": metadata}, group, model, model)
    metrics = Metrics()
    usage = UsageStore(f"sqlite:///{folder / USAGE}", metrics.lost)
    usage.start()
    return Door(
        directory=Table([route]),
        keys=KeyFile(folder / KEYS),
        limiter=Limiter(),
        usage=usage,
        log=AccessLog(folder / LOG, lost=metrics.lost),
        metrics=metrics,
    )


def main(port: str, upstream: str, folder: str, model: str) -> None:
    """Serves on loopback until SIGTERM."""
    import uvloop

    from serve.listening import bind
    from serve.run import _server

    made = door(upstream, Path(folder), model)
    # The very server that `gradus serve` makes; it leaves signals to its owner.
    server = _server(made)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, setattr, server, "should_exit", True)
        with bind("127.0.0.1", int(port)) as listener:
            await server.serve(sockets=[listener])

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
    finally:
        for kept in (made.usage, made.log):
            if kept is not None:
                kept.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
