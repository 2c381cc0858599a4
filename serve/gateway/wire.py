"""The connection itself: a head that is slow or endless, a path that says one thing in two ways."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.gateway.errors import ApiError, own_id

HEAD_S = 15.0
"""From a request's first byte, or the connection's beginning, to the end of its head."""
HEAD_BYTES = 64 << 10
ABORT = "gradus.abort"
"""The part of a request's scope that ends its connection, whatever waits to be sent."""
BACKLOG_REQUESTS = 4
"""Pipelined requests that may wait behind one another on a connection."""


class Wire(HttpToolsProtocol):
    """uvicorn's protocol over httptools, with bounds of time and size for a request's head."""

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._in_head = True
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(HEAD_S, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head or of a body."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._deadline is None:
                self._deadline = self.loop.call_later(HEAD_S, self._late)
        super().data_received(data)
        # What came with the head of a small request is no head.
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"The head is larger than {HEAD_BYTES} bytes")
        elif len(self.pipeline) > BACKLOG_REQUESTS and not self.transport.is_closing():
            self._refuse(429, "Too many requests at once on one connection")

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._disarm()
        self._in_head = False
        super().on_headers_complete()
        # The request is not served before the loop's next turn.
        scope: dict[str, Any] = cast("dict[str, Any]", self.scope)
        scope[ABORT] = self.transport.abort

    def on_message_complete(self) -> None:
        """The body is over: what comes next is a head."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses, in the shape of every other refusal."""
        self._refuse(400, msg)

    def _late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(408, f"The head did not come within {HEAD_S:g} s")

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int, message: str) -> None:
        body = json.dumps(ApiError(status, message).body()).encode()
        head = (
            f"HTTP/1.1 {status} {_WORDS[status]}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {uuid.uuid4().hex}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


_WORDS = {
    400: "Bad Request",
    408: "Request Timeout",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
}


class PlainPaths:
    """Lets through paths that are written in the one plain way, so that nobody reads another."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            raw = scope.get("raw_path") or scope["path"].encode()
            if b"%" in raw or b"//" in raw or b"/." in raw or b"\\" in raw:
                error = ApiError(404, "Not Found: a path with escapes, dots or doubled slashes")
                await _answer(send, error, own_id(Headers(scope=scope)))
                return
        await self._app(scope, receive, send)


async def _answer(send: Send, error: ApiError, call_id: str) -> None:
    body = json.dumps(error.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)),
               (b"x-request-id", call_id.encode())]  # fmt: skip
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
