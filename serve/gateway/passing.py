"""A stream to the client: never more of it in memory than the client takes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from serve.gateway.answer import pairs
from serve.gateway.call import CLIENT_GONE, Call
from serve.gateway.deadline import Deadline
from serve.gateway.stream import Counted, gone
from serve.gateway.upstreams import Begun
from serve.gateway.wire import WIRE

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
LOOK_S = 0.5
"""Between looks at whether a stream's client takes it, and may still have it."""
FAILED = 502
"""What is written down of a stream that its engine did not end; its client has read 200."""


class Passing:
    """Sends chunks on as they come, and ends the call however the stream ends.

    Attributes:
        headers: of the answer.
    """

    def __init__(
        self, call: Call, begun: Begun, chunks: AsyncIterator[bytes], counted: Counted
    ) -> None:
        """
        Args:
            begun: is closed at the end.
            chunks: what the client gets.
            counted: what it costs, filled while the chunks come.
        """
        self._call, self._begun, self._chunks, self._counted = call, begun, chunks, counted
        self._sending_since: float | None = None
        self.headers: Mapping[str, str] = _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        limits, loop = self._call.door.limits, asyncio.get_running_loop()
        # Another server's connections end by themselves.
        abort = scope[WIRE].abort if WIRE in scope else _nothing
        serves, revoked = asyncio.current_task(), False
        watch: asyncio.TimerHandle

        def look() -> None:
            nonlocal watch, revoked
            since = self._sending_since
            if since is not None and loop.time() - since > limits.stalled_s:
                # Whoever takes nothing would hold a place, and the engine's cache, for ever.
                abort()
            elif self._call.revoked and serves is not None:
                revoked = True
                serves.cancel()
            else:
                watch = loop.call_later(LOOK_S, look)

        watch = loop.call_later(LOOK_S, look)
        status = CLIENT_GONE
        try:
            await self._pass(send, loop)
            status = FAILED if self._counted.failed else 200
        except TimeoutError:
            status = FAILED
            if self._sending_since is not None:
                # The client is behind: nothing that is said now would reach it.
                abort()
            else:
                await send(_event(gone(f"The answer took longer than {limits.total_s:g} s")))
        except asyncio.CancelledError:
            ours = revoked or self._call.gone
            if self._sending_since is None and not self._call.gone:
                with contextlib.suppress(Exception):
                    await send(_event(_REVOKED if revoked else gone("The server is stopping")))
            elif revoked:
                abort()
            if serves is None or not ours:
                # The server stops, and the time to drain is over.
                raise
            serves.uncancel()
            status = 401 if revoked else CLIENT_GONE
        finally:
            watch.cancel()
            # Where the stream is not over, this ends the engine's work on its request.
            self._begun.close()
            self._call.end(status, self._counted)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass(self, send: Send, loop: asyncio.AbstractEventLoop) -> None:
        left_s = self._call.door.limits.total_s - (time.monotonic() - self._call.began)
        with Deadline(left_s):
            head = pairs(self.headers)
            await send({"type": "http.response.start", "status": 200, "headers": head})
            async for chunk in self._chunks:
                if self._counted.ended:
                    # Before the last bytes go: whoever has them may ask again at once, and the
                    # place among those under way has to be free by then.
                    self._call.end(200, self._counted)
                self._sending_since = loop.time()
                await send(_event(chunk))
                self._sending_since = None


def _nothing() -> None:
    pass


_REVOKED = gone("The API key was revoked or has expired", 401, "invalid_api_key")


def _event(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}
