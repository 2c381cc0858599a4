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
        transport = self._connection.transport
        if transport is not None and transport.get_write_buffer_size():
            # Answered before it had all of the request: the next one would wait behind the rest.
            self._connection.close()
        else:
            # Where the answer is not over, this ends it too.
            self._connection.release()


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
        try:
            connection = await self.connector.connect(self._place, [], _TIMEOUT)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"no connection to {self.base_url}") from error
        try:
            protocol = connection.protocol
            if protocol is None or protocol.transport is None or protocol.should_close:
                # Gone, or it said something that nobody had asked: no answer to this one.
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(read_until_eof=True)
            protocol.transport.write(b"%b%d\r\n\r\n%b" % (self._head(path), len(data), data))
            status = 100
            while 100 <= status < 200 and status != 101:
                message, content = await protocol.read()
                status = message.code
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientPayloadError(f"{self.base_url}: {error}") from error
        except BaseException:
            connection.close()
            raise
        return Reply(status, content, connection)

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
