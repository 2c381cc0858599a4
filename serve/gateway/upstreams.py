"""Engines behind one name: which of several replicas is asked, and which is well."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from serve.gateway.asking import Asker, Reply
from serve.gateway.deadline import Deadline
from serve.gateway.errors import ApiError, away

_CHECK_S = 1.0
_DIFFERS_S = 30.0
"""Until one that came back as another is compared again."""
_CHECK_LIMIT = aiohttp.ClientTimeout(total=5)
_MAX_MISSED = 3
"""Looks without an answer in time, one after another, until a replica counts as away: a busy one
may miss one. What refuses the connection, or says that it is not well, is away at once."""
# Less than the 5 s after which uvicorn, below vLLM, closes one that is idle: a request sent at
# that very moment would be lost.
_IDLE_S = 3.0
# A request that ends the engine which reads it must not end all of them.
_MAX_BROKEN = 2
_ALONE_S = 30.0
_MAX_ALONE = 16
"""How long, and how many at a time, requests wait that an engine must have to themselves. Others
go first: who asks for such must not stop everybody else."""
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


@dataclass(eq=False)
class Upstream:
    """One replica.

    Attributes:
        base_url: without a path.
        alive: whether its process runs, where it is ours.
        headers: sent with every request: the key of an engine that runs elsewhere.
        in_flight: requests under way.
        well: what the last look at /health said.
        compared: asked in a thread when it answers after it was away, before it is asked anything;
            None: it cannot come back as another one.
        scores_alone: a request for log-probabilities of its prompt gets the engine for itself:
            beside any other request one ends a vLLM that holds adapters (vllm #16668).
    """

    base_url: str
    alive: Callable[[], bool] = lambda: True
    headers: dict[str, str] = field(default_factory=dict)
    in_flight: int = 0
    well: bool = True
    scores_alone: bool = False
    compared: Callable[[], bool] | None = None
    _comparing: asyncio.Task[None] | None = None
    _alone: bool = False
    _missed: int = 0
    _waiting: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    session: aiohttp.ClientSession | None = None
    asker: Asker | None = None

    async def open(self) -> None:
        """Before the first request; inside the loop that sends it."""
        if self.session is None:
            # Waiting for a free connection would be a queue without an end.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S)
            headers = {**self.headers, **_HEADERS}
            self.asker = Asker(self.base_url, headers, connector)
            self.session = aiohttp.ClientSession(
                timeout=_CHECK_LIMIT,
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=headers,
                # A proxy of the environment must not see what clients say.
                trust_env=False,
            )

    async def close(self) -> None:
        """Ends its connections."""
        if self._comparing is not None:
            self._comparing.cancel()
        if self.session is not None:
            await self.session.close()
            self.session = self.asker = None

    async def look(self) -> None:
        """Asks /health once."""
        assert self.session is not None
        try:
            async with self.session.get(f"{self.base_url}/health") as answer:
                self._missed = 0
                self._answers(well=answer.status == 200)
        except TimeoutError:
            self._missed += 1
            self.well = self.well and self._missed < _MAX_MISSED
        except (aiohttp.ClientError, OSError):
            self.well = False

    def _answers(self, *, well: bool) -> None:
        if self.well or not well or self.compared is None:
            self.well = well
        elif self._comparing is None or self._comparing.done():
            # Others are looked at meanwhile.
            self._comparing = asyncio.create_task(self._compare(self.compared))

    async def _compare(self, compared: Callable[[], bool]) -> None:
        if await asyncio.to_thread(compared):
            self.well = True
        else:
            await asyncio.sleep(_DIFFERS_S)

    async def enter(self, *, alone: bool) -> None:
        """Takes a place; one that must be alone waits until nothing else is under way.

        Raises:
            ApiError: 503 where that does not come.
        """
        alone = alone and self.scores_alone
        if self._alone or (alone and self.in_flight):
            await self._free(alone=alone)
        self.in_flight += 1
        self._alone = alone

    async def _free(self, *, alone: bool) -> None:
        if alone and self._waiting >= _MAX_ALONE:
            raise _too_busy(f"{_MAX_ALONE} requests wait to have the engine to themselves already")
        self._waiting += alone
        try:
            async with asyncio.timeout(_ALONE_S if alone else None):
                while self._alone or (alone and self.in_flight):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            if not alone:
                raise
            raise _too_busy(f"The engine was not idle for a moment in {_ALONE_S:g} s") from None
        finally:
            self._waiting -= alone

    def leave(self) -> None:
        """Gives the place back."""
        self.in_flight -= 1
        self._alone = False
        self._changed.set()

    @property
    def usable(self) -> bool:
        """Whether a request may be sent there now."""
        return self.well and self.alive()


def _too_busy(why: str) -> ApiError:
    return ApiError(
        503, f"{why}, and log-probabilities of prompts need that; come again",
        code="overloaded", headers={"Retry-After": "5"},
    )  # fmt: skip


@dataclass(eq=False)
class Begun:
    """An answer of which there are bytes.

    Attributes:
        upstream: who gives it.
        answer: the rest of it.
        first: a stream's first bytes; of any other answer all of it.
    """

    upstream: Upstream
    answer: Reply
    first: bytes
    _open: bool = True

    @property
    def status(self) -> int:
        """As the engine says."""
        return self.answer.status

    def close(self) -> None:
        """Gives the place back; ends the engine's work where it is not done. May come twice."""
        if self._open:
            self._open = False
            self.answer.close()
            self.upstream.leave()


@dataclass(eq=False)
class UpstreamGroup:
    """Replicas that serve the same models."""

    members: Sequence[Upstream]
    _checks: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Opens all and begins to look after them."""
        for member in self.members:
            await member.open()
        if self._checks is None:
            self._checks = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Ends it."""
        if self._checks is not None:
            self._checks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checks
            self._checks = None
        for member in self.members:
            await member.close()

    @property
    def ready(self) -> bool:
        """Whether at least one replica is usable."""
        return any(member.usable for member in self.members)

    async def look(self) -> None:
        """Asks all of them once."""
        await asyncio.gather(*(member.look() for member in self.members))

    async def _look(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_CHECK_S)

    async def send(
        self, path: str, data: bytes, seconds: float, *, alone: bool = False, stream: bool = False
    ) -> Begun:
        """Sends to the least loaded replica; to another where one breaks before its first byte.

        Replicas that cannot be reached are passed over. Of those that break when they have the
        request, or answer 5xx, one is: it may be the request that breaks them.

        Args:
            seconds: until a stream's first byte, or the whole of another answer.
            alone: the request asks for log-probabilities of its prompt.
            stream: the answer comes in pieces.

        Returns:
            What its caller closes.

        Raises:
            ApiError: 503 where no replica takes it.
            TimeoutError: none answered in time.
        """
        left = list(self.members)
        broken = 0
        with Deadline(seconds):
            while broken < _MAX_BROKEN:
                left = [member for member in left if member.usable]
                if not left:
                    break
                chosen = min(left, key=lambda member: member.in_flight)
                left.remove(chosen)
                try:
                    begun = await self._begin(chosen, path, data, alone=alone, stream=stream)
                except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                    # It never had the request; the next look at its health may find it well.
                    chosen.well = False
                    continue
                except (aiohttp.ClientError, OSError):
                    broken += 1
                    continue
                broken += 1
                if begun.status < 500 or broken == _MAX_BROKEN or not any(m.usable for m in left):
                    return begun
                begun.close()
        raise away()

    @staticmethod
    async def _begin(
        chosen: Upstream, path: str, data: bytes, *, alone: bool, stream: bool
    ) -> Begun:
        assert chosen.asker is not None
        await chosen.enter(alone=alone)
        try:
            answer = await chosen.asker.post(path, data)
        except BaseException:
            chosen.leave()
            raise
        begun = Begun(chosen, answer, b"")
        try:
            if stream and answer.status == 200:
                # vLLM sends a stream's head before it has computed anything.
                begun.first = await answer.content.readany()
            else:
                begun.first = await answer.read()
        except BaseException:
            begun.close()
            raise
        return begun
