"""What an engine is sent and what is read of it, beside aiohttp's own session and h11's parser."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import h11
import pytest

from serve.gateway.asking import Asker

HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity", "X-Key": "k"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Engine:
    """Answers each request by given bytes, in pieces; keeps what h11 made of the requests."""

    def __init__(self, answers: Sequence[Sequence[bytes]], ends: bool = False) -> None:
        self._answers, self._ends = list(answers), ends
        self.asked: list[tuple[h11.Request, bytes]] = []
        self.connections = 0
        self.serving: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        serves = asyncio.current_task()
        assert serves is not None
        self.serving.append(serves)
        with contextlib.suppress(ConnectionError):
            try:
                while self._answers and (asked := await self._read(reader)) is not None:
                    self.asked.append(asked)
                    for piece in self._answers.pop(0):
                        writer.write(piece)
                        await writer.drain()
                        # A read of its own for each.
                        await asyncio.sleep(0.01)
                    if self._ends:
                        break
            finally:
                writer.close()
                await writer.wait_closed()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> tuple[h11.Request, bytes] | None:
        parser, head, body = h11.Connection(h11.SERVER), None, b""
        while True:
            event: Any = parser.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(65_536)
                if not data:
                    return None
                parser.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                assert head is not None
                return head, body


@contextlib.asynccontextmanager
async def before(engine: Engine) -> AsyncIterator[tuple[Asker, aiohttp.ClientSession]]:
    """An asker, and a session of the same settings."""
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(place, connector=connector, headers=HEADERS) as session:
        yield Asker(place, HEADERS, connector), session
    server.close()
    await asyncio.gather(*engine.serving)


async def asked(asker: Asker, data: bytes = b"{}") -> tuple[int, bytes]:
    reply = await asker.post("/v1/completions", data)
    try:
        return reply.status, await reply.read()
    finally:
        reply.close()


def test_the_session_would_have_sent_the_same() -> None:
    async def both() -> None:
        engine = Engine([[OK], [OK]])
        async with before(engine) as (asker, session):
            await asked(asker, b'{"a": 1}')
            async with session.post("/v1/completions", data=b'{"a": 1}'):
                pass
        (ours, body), (theirs, their_body) = engine.asked
        assert (ours.method, ours.target) == (theirs.method, theirs.target)
        assert sorted(ours.headers) == sorted(theirs.headers)
        assert body == their_body == b'{"a": 1}'

    asyncio.run(both())


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_body_arrives_whole(size: int) -> None:
    async def sent() -> None:
        engine = Engine([[OK]])
        async with before(engine) as (asker, _):
            assert await asked(asker, b"x" * size) == (200, b"hello")
        assert engine.asked[0][1] == b"x" * size

    asyncio.run(sent())


@pytest.mark.parametrize(
    ("pieces", "ends", "status", "body"),
    [
        ([OK], False, 200, b"hello"),
        ([OK[:7], OK[7:30], OK[30:-2], OK[-2:]], False, 200, b"hello"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n",
          b"3\r\nllo\r\n", b"0\r\n\r\n"], False, 200, b"hello"),
        ([b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"], True, 200, b"hello"),
        ([b"HTTP/1.1 103 Early Hints\r\n\r\n", OK], False, 200, b"hello"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], False, 204, b""),
        ([b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"], False, 503, b""),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
          % (len(gzip.compress(b"hello", mtime=0)), gzip.compress(b"hello", mtime=0))],
         False, 200, b"hello"),
    ],
)  # fmt: skip
def test_answers_are_read_as_the_session_reads_them(
    pieces: list[bytes], ends: bool, status: int, body: bytes
) -> None:
    async def read() -> None:
        async with before(Engine([pieces, pieces], ends)) as (asker, session):
            assert await asked(asker) == (status, body)
            async with session.post("/v1/completions", data=b"{}") as theirs:
                assert (theirs.status, await theirs.read()) == (status, body)

    asyncio.run(read())


def test_a_connection_is_asked_again_and_one_with_an_answer_left_in_it_is_not() -> None:
    async def many() -> None:
        engine = Engine([[OK]] * 4)
        async with before(engine) as (asker, _):
            for _ in range(3):
                assert await asked(asker) == (200, b"hello")
            assert engine.connections == 1
            half = Engine([[OK[:-2]], [OK]])
            async with before(half) as (other, _):
                reply = await other.post("/v1/completions", b"{}")
                reply.close()
                reply.close()
                assert await asked(other) == (200, b"hello")
                assert half.connections == 2

    asyncio.run(many())


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [OK[:10]],
        [OK[:-1]],
        [b"no HTTP at all\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
    ],
)
def test_what_is_no_answer_is_an_error_of_aiohttps(pieces: list[bytes]) -> None:
    async def broken() -> None:
        async with before(Engine([pieces, [OK]], ends=True)) as (asker, _):
            with pytest.raises(aiohttp.ClientError):
                await asked(asker)
            # And the next one is not harmed by it.
            assert await asked(asker) == (200, b"hello")

    asyncio.run(broken())


def test_where_nobody_listens_nothing_was_sent() -> None:
    async def refused() -> None:
        async with before(Engine([])) as (asker, _):
            nobody = Asker("http://127.0.0.1:9", HEADERS, asker.connector)
            with pytest.raises(aiohttp.ClientConnectorError):
                await asked(nobody)

    asyncio.run(refused())


def test_who_waits_no_longer_leaves_no_connection_behind() -> None:
    async def gone() -> None:
        engine = Engine([[], [OK]])
        async with before(engine) as (asker, _):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asked(asker)
            assert await asked(asker) == (200, b"hello")
            assert engine.connections == 2

    asyncio.run(gone())


def test_a_header_cannot_hold_another() -> None:
    async def forged() -> None:
        async with before(Engine([[OK]])) as (asker, _):
            bad = Asker(asker.base_url, {"Authorization": "k\r\nX: y"}, asker.connector)
            with pytest.raises(ValueError, match="header"):
                await bad.post("/v1/completions", b"{}")

    asyncio.run(forged())


def test_a_connection_that_has_not_taken_its_request_is_not_asked_again() -> None:
    """An engine may refuse a request that it has not read: the next would wait behind the rest."""

    async def refused() -> None:
        done = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            await done.wait()
            writer.close()

        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(serve, sock=listener, limit=4096)
        connector = aiohttp.TCPConnector(limit=0)
        place = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with aiohttp.ClientSession(connector=connector):
            asker = Asker(place, HEADERS, connector)
            for _ in range(2):
                async with asyncio.timeout(5):
                    assert await asked(asker, b"x" * (32 << 20)) == (413, b"")
        done.set()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)

    asyncio.run(refused())


@pytest.mark.parametrize(("size", "status", "connections"), [(10, 413, 1), (1 << 20, 413, 2),
                                                             (1 << 20, 200, 1)])  # fmt: skip
def test_a_connection_on_which_a_large_request_was_refused_is_not_asked_again(
    size: int, status: int, connections: int
) -> None:
    """Under TLS nothing tells how much of it went."""

    async def refused() -> None:
        engine = Engine([[b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status], [OK]])
        async with before(engine) as (asker, _):
            assert await asked(asker, b"x" * size) == (status, b"")
            assert await asked(asker) == (200, b"hello")
        assert engine.connections == connections

    asyncio.run(refused())


def test_who_goes_takes_the_rest_of_a_request_along() -> None:
    """Else an engine that reads again later would begin on what nobody waits for."""

    async def gone() -> int:
        taken, go_on, over = 0, asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal taken
            await reader.readuntil(b"\r\n\r\n")
            await go_on.wait()
            with contextlib.suppress(ConnectionError):
                while part := await reader.read(65_536):
                    taken += len(part)
            writer.close()
            over.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=4096)
        connector = aiohttp.TCPConnector(limit=0)
        place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with aiohttp.ClientSession(connector=connector):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await asked(Asker(place, HEADERS, connector), b"x" * (64 << 20))
            go_on.set()
            async with asyncio.timeout(10):
                await over.wait()
        server.close()
        await server.wait_closed()
        return taken

    assert asyncio.run(gone()) < 64 << 20


def test_what_nobody_asked_for_is_nobodys_answer() -> None:
    async def forged() -> None:
        engine = Engine([[OK, OK.replace(b"hello", b"forge")], [OK]])
        async with before(engine) as (asker, _):
            assert await asked(asker) == (200, b"hello")
            await asyncio.sleep(0.1)
            assert await asked(asker) == (200, b"hello")
        assert engine.connections == 2

    asyncio.run(forged())
