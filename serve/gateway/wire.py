"""The connection itself: a head that is slow or endless, and answers that go out at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from serve.gateway.errors import ApiError, own_id

HEAD_S = 15.0
"""From a request's first byte, or the connection's beginning, to the end of its head."""
HEAD_BYTES = 64 << 10
WIRE = "gradus.wire"
"""The part of a request's scope that is its connection, a ``Wire``."""
BACKLOG_REQUESTS = 4
"""Pipelined requests that may wait behind one another on a connection."""


class Wire(HttpToolsProtocol):
    """uvicorn's protocol over httptools, with bounds of time and size for a request's head."""

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        self._told: Callable[[], None] | None = None
        self._lost = False
        super().connection_made(transport)
        self._head_bytes = 0
        self._in_head = True
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(HEAD_S, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._disarm()
        self._lost = True
        super().connection_lost(exc)
        if self._told is not None:
            self._told()

    def when_gone(self, told: Callable[[], None] | None) -> None:
        """Calls ``told`` when the client goes; None: it is not waited for any more."""
        self._told = told
        if told is None:
            return
        # A large body may have stopped it, and what is not read does not end.
        self.flow.resume_reading()
        if self._lost:
            self.loop.call_soon(told)

    def abort(self) -> None:
        """Ends it, whatever waits to be sent."""
        self.transport.abort()

    @property
    def body_is_here(self) -> bool:
        """Whether all of the body of the request that is served now has come."""
        # Where another waits behind it, it is whole; else it is the newest.
        return bool(self.pipeline) or not self.cycle.more_body

    def data_received(self, data: bytes) -> None:
        """Bytes of a head or of a body."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes and self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self._late)
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
        scope[WIRE] = self

    def answers(self, send: Send, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Sends a whole answer in one piece, where nothing is in its way; whether it did.

        The two messages of ASGI do the same for an answer of any kind, at several times the price.

        Args:
            send: as the application was given it: of uvicorn's object for one request.
            headers: ours alone, which need no looking at; beside the body's length.
        """
        cycle = getattr(send, "__self__", None)
        if (
            not isinstance(cycle, RequestResponseCycle)
            or cycle.response_started
            or cycle.disconnected
            or not cycle.keep_alive
            or self.flow.write_paused
        ):
            return False
        head = [STATUS_LINE[status]]
        head += [b"%b: %b\r\n" % pair for pair in cycle.default_headers]
        told = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head += [told.encode("latin-1"), b"content-length: %d\r\n\r\n" % len(body), body]
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(b"".join(head))
        cycle.message_event.set()
        cycle.on_response()
        return True

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
            f"content-length: {len(body)}\r\nx-request-id: {own_id('')}\r\n"
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
