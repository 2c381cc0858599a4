"""A lean load client over HTTP/1.1: connections that ask the same again and again, and count.

An HTTP library would take more processor time than some of the sides that are measured.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# What each event with a word in it holds once, however a side writes the rest of its JSON.
_WORD = re.compile(rb'"content":\s?"[^"]')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
# A whole answer that has not come by then never will.
_PATIENCE_S = 120.0


class Broken(Exception):
    """An answer that is none: a refusal, or a connection that ended too soon."""


@dataclass
class Load:
    """What one measurement counted.

    Attributes:
        latencies_s: of whole answers that ended in time.
        words: events of streams that came in time.
        window_s: the time in which they were counted.
    """

    window_s: float
    latencies_s: list[float] = field(default_factory=list)
    words: int = 0

    @property
    def answers_per_s(self) -> float:
        """Whole answers by the second."""
        return len(self.latencies_s) / self.window_s

    @property
    def words_per_s(self) -> float:
        """Streamed events by the second."""
        return self.words / self.window_s


def request_bytes(port: int, body: Mapping[str, Any], key: str) -> bytes:
    """A request for a chat completion, whole."""
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def stream_of(answer: bytes) -> bytes:
    """The events of a streamed answer, without its head and the marks of its chunks."""
    rest, events = answer.partition(b"\r\n\r\n")[2], bytearray()
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        events += rest[:length]
        rest = rest[length + 2 :]
    return bytes(events)


def words_in(events: bytes) -> int:
    """Events that hold a word."""
    return len(_WORD.findall(events))


async def drive(port: int, request: bytes, *, connections: int, seconds: float) -> Load:
    """Keeps ``connections`` requests under way for ``seconds``; those begun are let finish.

    Raises:
        Broken: an answer was none.
    """
    load = Load(seconds)
    async with asyncio.timeout(seconds + _PATIENCE_S):
        asked = [await _connected(port, request) for _ in range(connections)]
        ends = time.perf_counter() + seconds
        for each in asked:
            each.count(load, ends)
        try:
            await asyncio.gather(*(each.over for each in asked))
        finally:
            for each in asked:
                each.close()
    return load


async def fetch(port: int, request: bytes) -> bytes:
    """One whole answer, its head and the marks of its chunks included.

    Raises:
        Broken: it was none.
        OSError: nobody listens.
    """
    async with asyncio.timeout(_PATIENCE_S):
        asked = await _connected(port, request)
        asked.kept = bytearray()
        asked.count(Load(0.0), 0.0)
        try:
            await asked.over
        finally:
            asked.close()
    return bytes(asked.kept)


async def _connected(port: int, request: bytes) -> _Connection:
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(
        lambda: _Connection(request, loop.create_future()), "127.0.0.1", port
    )
    return made


class _Connection(asyncio.Protocol):
    """One that is kept alive."""

    def __init__(self, request: bytes, over: asyncio.Future[None]) -> None:
        self.over = over
        self.kept: bytearray | None = None
        self._request = request

    def connection_made(self, transport: Any) -> None:
        """It stands."""
        self._transport = transport

    def count(self, load: Load, ends: float) -> None:
        """Asks until ``ends`` (perf_counter), once at least, and counts into ``load``."""
        self._load, self._ends = load, ends
        self._ask()

    def close(self) -> None:
        """Ends it."""
        self.over.cancel()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        if self.kept is not None:
            self.kept += data
        if self._in_head:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            if head[9:12] != b"200":
                self._break(
                    f"answered {head[9:12].decode()}: {data[:300].decode(errors='replace')}"
                )
                return
            length = _LENGTH.search(head)
            self._bytes_left = int(length[1]) if length else None
            self._in_head, self._tail = False, b""
        now = time.perf_counter()
        if self._bytes_left is None:
            if now < self._ends:
                # An event that two reads share is lost: one of hundreds, and on every side.
                self._load.words += len(_WORD.findall(data))
            self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
            whole = self._tail == _LAST_CHUNK
        else:
            self._bytes_left -= len(data)
            whole = self._bytes_left == 0
        if whole:
            self._answered(now)

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended."""
        self._break("ended its connection in the middle of an answer")

    def _ask(self) -> None:
        self._in_head, self._head = True, b""
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def _answered(self, now: float) -> None:
        if now < self._ends:
            self._load.latencies_s.append(now - self._began)
            self._ask()
        elif not self.over.done():
            self.over.set_result(None)

    def _break(self, why: str) -> None:
        if not self.over.done():
            self.over.set_exception(Broken(why))
