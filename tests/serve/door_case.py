"""A bundle's gateway before a stub that answers with awkward bytes, and its client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from serve.bundle import Bundle
from serve.gateway.app import create_app
from serve.gateway.directory import table_of
from serve.gateway.door import Door as OpenDoor
from serve.gateway.upstreams import Upstream, UpstreamGroup
from serve.keys import OneKey

CHAT = {"model": "demo-l1", "messages": [{"role": "user", "content": "Hello"}]}
EVENTS = b'data: {"model":"/engine/demo-l1","x": [1,  2]}\n\ndata: [DONE]\n\n'


class StubUpstream:
    """Stands in for an engine's HTTP side; it is no model, it keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.breaks = False
        self.app = FastAPI()
        self.app.add_api_route("/health", self.health, methods=["GET"])
        self.app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"])

    async def health(self) -> Response:
        return JSONResponse({})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.seen.append(body)
        if body.get("seed") == 404:
            return JSONResponse({"detail": "no such thing"}, 422)
        if body.get("stream"):
            return StreamingResponse(self.events(), media_type="text/event-stream")
        return Response(
            b'{"model": "/engine/demo-l1",  "said":"\\"model\\": \\"/engine/demo-l1\\""}',
            media_type="application/json",
        )

    async def events(self) -> Any:
        # In two pieces that cut the model's name.
        yield EVENTS[:25]
        await asyncio.sleep(0.02)
        if self.breaks:
            raise ConnectionError("the stub breaks off, as it was told")
        yield EVENTS[25:]


@dataclass
class StubEngine:
    """An engine that is nothing but a URL and a table."""

    base_url: str
    name: str = "stub"
    log_path: Path | None = None
    up: bool = True
    models: Mapping[str, str] = field(
        default_factory=lambda: {f"demo-l{n}": f"/engine/demo-l{n}" for n in range(3)}
    )

    @property
    def echoes(self) -> Mapping[str, str]:
        return {name: name for name in self.models.values()}

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        return body

    def start(self) -> None: ...

    def wait_ready(self, timeout_s: float = 1.0) -> None: ...

    def alive(self) -> bool:
        return self.up

    def log_tail(self) -> str:
        return ""

    def stop(self) -> None: ...


@dataclass
class Door:
    url: str
    upstream: StubUpstream
    engine: StubEngine

    def chat(self, data: Any, **headers: str) -> requests.Response:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        headers = {"Content-Type": "application/json", **headers}
        return requests.post(
            f"{self.url}/v1/chat/completions", data=raw, headers=headers, timeout=10
        )


def app_of(bundle: Bundle, engine: StubEngine, api_key: str | None = None) -> FastAPI:
    """The gateway of a bundle before one engine."""
    group = UpstreamGroup([Upstream(engine.base_url, engine.alive)])
    keys = None if api_key is None else OneKey(api_key)
    return create_app(OpenDoor(table_of(bundle, engine, group), keys, healthy=engine.alive))


def error_of(answer: requests.Response) -> dict[str, Any]:
    """The error, after checking that its shape is OpenAI's."""
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error
