"""The least that a gateway in Python can be: FastAPI, an aiohttp client, and no more.

python -m benchmarks.gateway_bare PORT UPSTREAM

No keys, no checks, no limits, nothing counted: what ours adds is measured against it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

_PATH = "/v1/chat/completions"


def create_app(upstream: str) -> FastAPI:
    """The proxy before ``upstream`` (a URL without a path)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(upstream, connector=connector) as session:
            app.state.session = session
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post(_PATH)
    async def chat(request: Request) -> Response:
        body = await request.body()
        headers = {"Content-Type": "application/json"}
        answer = await app.state.session.post(_PATH, data=body, headers=headers)
        kind = answer.headers.get("Content-Type", "application/json")
        if kind.startswith("text/event-stream"):
            return StreamingResponse(answer.content.iter_any(), media_type=kind)
        async with answer:
            return Response(await answer.read(), answer.status, media_type=kind)

    return app


def main(port: str, upstream: str) -> None:
    """Serves on loopback until it is stopped."""
    uvicorn.run(
        create_app(upstream), host="127.0.0.1", port=int(port), http="httptools", loop="uvloop",
        log_level="warning", access_log=False,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
