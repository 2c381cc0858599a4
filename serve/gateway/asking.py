"""POSTs to one engine over aiohttp's own connections.

aiohttp's session builds each request anew: merged headers, cookies, redirects, authorisation,
traces, a task that writes the body. What is asked of an engine differs in its path and its body
alone, so the rest is built once, and of aiohttp its connector (connections, TLS, keep-alive) and
its parser are used, below the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

_CONNECT_S = 5.0
_LARGE = 64 << 10
"""Bytes of a request that a connection's buffers take whole, also while nobody reads them."""
_TRIES = 16
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)


@dataclass(eq=False, slots=True)
class Reply:
    """An answer whose head has come.

    Attributes:
        status: HTTP status.
        content: its body, as it comes.
    """

    status: int
    content: aiohttp.StreamReader
    _connection: aiohttp.connector.Connection
    _large: bool

    async def read(self) -> bytes:
        """All of its body.

        Raises:
            aiohttp.ClientError, OSError: it ended too soon.
        """
        body = await self.content.readany()
        if not self.content.at_eof():
            parts = [body]
            while part := await self.content.readany():
                parts.append(part)
            body = b"".join(parts)
        return body

    def close(self) -> None:
        """Gives the connection back, or ends it where a body is not over; may come twice."""
        # An engine may refuse a request before it has all of it, and the next one would wait behind
        # the rest. Under TLS nothing tells of that but the size.
        if _unsent(self._connection) or (self._large and self.status >= 400):
            _end(self._connection)
        else:
            # Where the answer is not over, this ends it too.
            self._connection.release()


def _unsent(connection: aiohttp.connector.Connection) -> bool:
    transport = connection.transport
    return transport is not None and transport.get_write_buffer_size() > 0


def _end(connection: aiohttp.connector.Connection) -> None:
    """Ends it at once: closed in the common way it would first send what it holds."""
    if connection.transport is not None and _unsent(connection):
        connection.transport.abort()
    connection.close()


@dataclass(eq=False)
class Asker:
    """What asks one engine.

    Attributes:
        base_url: without a path.
        headers: sent with each request.
        connector: is closed by its owner.
    """

    base_url: str
    headers: Mapping[str, str]
    connector: aiohttp.BaseConnector
    _heads: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # It says where to connect, and is never sent itself.
        loop = asyncio.get_running_loop()
        self._place = aiohttp.ClientRequest(
            "POST", URL(self.base_url), headers=self.headers, loop=loop
        )

    async def post(self, path: str, data: bytes) -> Reply:
        """Sends a body, and waits for the answer's head.

        Args:
            path: of a closed set: what is sent before the body is kept for each.

        Returns:
            What its caller closes.

        Raises:
            aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError: it was never sent.
            aiohttp.ClientError, OSError: the connection, or the answer, broke.
        """
        connection = await self._connected()
        try:
            protocol = connection.protocol
            if protocol is None or protocol.transport is None:
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(read_until_eof=True)
            protocol.transport.write(b"%b%d\r\n\r\n%b" % (self._head(path), len(data), data))
            status = 100
            while 100 <= status < 200 and status != 101:
                message, content = await protocol.read()
                status = message.code
        except HttpProcessingError as error:
            _end(connection)
            raise aiohttp.ClientPayloadError(f"{self.base_url}: {error}") from error
        except BaseException:
            _end(connection)
            raise
        return Reply(status, content, connection, len(data) > _LARGE)

    async def _connected(self) -> aiohttp.connector.Connection:
        """One on which nothing was said that nobody had asked: that would be the answer."""
        for _ in range(_TRIES):
            try:
                connection = await self.connector.connect(self._place, [], _TIMEOUT)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError(f"no connection to {self.base_url}") from error
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        raise aiohttp.ServerDisconnectedError

    def _head(self, path: str) -> bytes:
        """All of it, to the body's length."""
        found = self._heads.get(path)
        if found is None:
            told = [(n, v) for n, v in self._place.headers.items() if n != "Content-Length"]
            lines = [
                f"POST {URL(self.base_url + path).raw_path_qs} HTTP/1.1",
                *(f"{name}: {value}" for name, value in told),
                "Content-Length: ",
            ]
            if any("\r" in line or "\n" in line for line in lines):
                raise ValueError("a line end in a header")
            found = self._heads[path] = "\r\n".join(lines).encode("utf-8")
        return found
