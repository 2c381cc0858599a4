"""One call of a client: who it is, what it costs, and its end, which is counted exactly once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.types import Receive, Scope

from serve.gateway.directory import Route
from serve.gateway.door import Door
from serve.gateway.errors import ApiError, no_model, own_id
from serve.gateway.estimate import estimate, estimated_prompt
from serve.gateway.host import require_own_host
from serve.gateway.reading import parse_object, read_body, read_slowly, require_json
from serve.gateway.stream import Counted
from serve.gateway.wire import WIRE, Wire
from serve.limits import TooMany
from serve.used import Used

if TYPE_CHECKING:
    from serve.keys import Key, KeyRing
    from serve.limits import Ticket

CLIENT_GONE = 499
"""The status of a call whose client went first, as nginx writes it."""


@dataclass
class Call:
    """From the request's head to the last byte of the answer.

    Attributes:
        id: in the answer's x-request-id, the log and the usage.
        key: who asks; None where no keys are asked for.
        gone: the client went before its answer was whole; what serves the call is cancelled.
    """

    door: Door
    scope: Scope
    receive: Receive
    key: Key | None = None
    route: Route | None = None
    ticket: Ticket | None = None
    body: dict[str, Any] = field(default_factory=dict)
    gone: bool = False
    _wire: Wire | None = None
    _held: bool = False
    _ended: bool = False

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.path: str = self.scope["path"]
        # Of a header that stands twice the first counts.
        self._head = dict(reversed(self.scope["headers"]))
        self.id = own_id(self.header(b"x-request-id"))

    def header(self, name: bytes) -> str:
        """What the client sent under a name in lower case; empty where it did not."""
        value: bytes | None = self._head.get(name)
        return "" if value is None else value.decode("latin-1")

    @property
    def caller(self) -> str:
        """Who is given a trial version always or never: the key, or the address."""
        if self.key is not None:
            return self.key.id
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    @property
    def headers(self) -> dict[str, str]:
        """What every answer to it carries."""
        limits: Mapping[str, str] = {} if self.ticket is None else self.ticket.headers
        version = {} if self.route is None else {"x-model-version": self.route.version}
        return {"x-request-id": self.id, **version, **limits}

    def admit(self) -> None:
        """Looks at the key, or where there are none at the Host.

        Raises:
            ApiError: 401 or 403.
        """
        if self.door.keys is None:
            require_own_host(self.header(b"host"))
            return
        self.key = self._key(self.door.keys)
        if self.key is None:
            raise ApiError(
                401, "Missing or wrong API key", code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    def _key(self, keys: KeyRing) -> Key | None:
        scheme, _, token = self.header(b"authorization").partition(" ")
        # Header text is latin-1 on the way in; a key's own bytes are UTF-8.
        given = token.strip().encode("latin-1")
        return keys.find(given) if scheme.lower() == "bearer" and given else None

    @property
    def revoked(self) -> bool:
        """Whether its key would not be let in any more: revoked, expired, or not for this model."""
        if self.door.keys is None:
            return False
        key = self._key(self.door.keys)
        model = "" if self.route is None else str(self.body.get("model"))
        return key is None or bool(key.models and model and model not in key.models)

    async def read(self) -> dict[str, Any]:
        """Takes a place among those under way, and the body.

        Raises:
            ApiError: 503 where the door is full or closing, 429 where the key has had its
                requests; what is wrong with the body.
        """
        door = self.door
        if door.draining:
            raise self._shed("draining", "The server is stopping; try another or come again")
        if door.in_flight >= door.limits.in_flight:
            raise self._shed("full", f"{door.in_flight} requests are under way; come again")
        # Before the body: whoever sends it slowly, or sends one that is refused, is bounded too.
        if self.key is not None and door.limiter is not None:
            try:
                self.ticket = door.limiter.admit(self.key)
            except TooMany as error:
                raise _too_many(error) from None
        door.in_flight += 1
        self._held = True
        limits, wire = door.limits, self.scope.get(WIRE)
        require_json(self.header, limits.body_bytes)
        if wire is not None and wire.body_is_here:
            raw = await read_body(self.receive, limits.body_bytes)
        else:
            raw = await read_slowly(self.receive, limits.body_bytes, limits.body_s)
        self.body = parse_object(raw)
        serves = asyncio.current_task()
        if wire is not None and serves is not None:
            self._wire = wire
            wire.when_gone(partial(self._client_gone, serves))
        return self.body

    def _client_gone(self, serves: asyncio.Task[Any]) -> None:
        """Ends the work, and so the engine's, for a client that does not wait for it."""
        if not self._ended:
            self.gone = True
            serves.cancel()

    def choose(self) -> Route:
        """The route of the body's model, for this caller.

        Raises:
            ApiError: 404 where it is unknown, or not this key's.
        """
        name = self.body.get("model")
        if not isinstance(name, str):
            raise ApiError(400, "model: give a model's name", param="model", code="invalid_value")
        # To a key that may not have it, a model does not exist.
        mine = self.key is None or not self.key.models or name in self.key.models
        route = self.door.directory.find(name, self.caller) if mine else None
        if route is None:
            raise no_model(name)
        self.route = route
        route.use.count += 1
        if self.door.metrics is not None:
            self.door.metrics.calls.started(self.path, route.name)
        return route

    def charge(self) -> None:
        """Takes what the call may cost out of the key's tokens.

        Raises:
            ApiError: 429.
        """
        if self.ticket is None:
            return
        try:
            self.ticket.charge(estimate(self.path, self.body, self.route))
        except TooMany as error:
            raise _too_many(error) from None

    def end(self, status: int, counted: Counted, answers: Any = None) -> None:
        """The call is over: its place, its limits, its usage, its line in the log."""
        if self._ended:
            return
        self._ended = True
        if self.route is not None:
            self.route.use.count -= 1
        door, seconds = self.door, time.monotonic() - self.began
        if self._held:
            door.in_flight -= 1
        if self._wire is not None:
            self._wire.when_gone(None)
        prompt, answer = counted.prompt or 0, counted.answer or 0
        if counted.prompt is None and (counted.events or (self.gone and self.route is not None)):
            # The engine tells at the end only, and there was none: an estimate, marked by its
            # status, so that a client cannot have tokens for nothing by going first.
            prompt, answer = estimated_prompt(self.path, self.body, self.route), counted.events
        if self.ticket is not None:
            self.ticket.done(None if counted.prompt is None else prompt + answer)
        name, version = ("", "") if self.route is None else (self.route.name, self.route.version)
        streamed = bool(self.body.get("stream"))
        who = None if self.key is None else self.key.id
        if door.metrics is not None:
            first_s = None if counted.first_at is None else counted.first_at - self.began
            door.metrics.calls.finished(self.path, name, status, seconds, prompt, answer, first_s)
        if door.usage is not None and self.route is not None:
            door.usage.add(
                Used(time.time(), self.id, who or "", name, version, self.path, prompt, answer,
                     status, seconds, streamed)
            )  # fmt: skip
        if door.log is not None:
            fields = {
                "request_id": self.id, "key": who, "method": self.scope["method"],
                "path": self.path[:256], "model": name or None, "version": version or None,
                "status": status, "latency_s": round(seconds, 4),
                "prompt_tokens": counted.prompt, "completion_tokens": counted.answer,
                "stream": streamed,
            }  # fmt: skip
            door.log.write(fields, {"body": self.body, "answers": answers})

    def _shed(self, reason: str, message: str) -> ApiError:
        if self.door.metrics is not None:
            self.door.metrics.shed(reason)
        return ApiError(503, message, code="overloaded", headers={"Retry-After": "1"})


def _too_many(error: TooMany) -> ApiError:
    """A limit's end, as clients are told of it."""
    wait = {"Retry-After": str(max(1, round(error.retry_after_s + 0.5)))}
    return ApiError(429, str(error), code="rate_limit_exceeded", headers={**error.headers, **wait})
