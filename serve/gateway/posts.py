"""The routes that answer calls: each a call from its head to its end, however it ends.

They are ASGI applications themselves, so that nothing of a framework stands in a call's way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.gateway.answer import Answer, refused, told
from serve.gateway.bodies import check_body
from serve.gateway.call import CLIENT_GONE, Call
from serve.gateway.classified import classified
from serve.gateway.classify import parse_classify
from serve.gateway.door import Door
from serve.gateway.errors import ApiError
from serve.gateway.forward import asked, forwarded
from serve.gateway.passing import Passing
from serve.gateway.stream import Counted

GENERATED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
CLASSIFY = "/v1/classify"
Serve = Callable[[Call], Awaitable[Answer | Passing]]
_LOG = logging.getLogger("gradus.gateway")


def posts(door: Door) -> dict[str, ASGIApp]:
    """What answers a POST to each path."""
    return {**dict.fromkeys(GENERATED, Post(door, generate)), CLASSIFY: Post(door, classify)}


class Post:
    """Answers calls of a door."""

    def __init__(self, door: Door, serve: Serve) -> None:
        """
        Args:
            serve: answers a call whose key was looked at and whose body was read; what it
                raises ends the call, else it ends it itself or leaves that to a stream.
        """
        self._door, self._serve = door, serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        call = Call(self._door, scope, receive)
        try:
            call.admit()
            await call.read()
            answer = await self._serve(call)
            answer.headers = {**answer.headers, **call.headers}
        except ApiError as error:
            error.headers = {**call.headers, **error.headers}
            call.end(error.status, Counted())
            answer = refused(error, call.id)
        except asyncio.CancelledError:
            call.end(CLIENT_GONE if call.gone else 500, Counted())
            task = asyncio.current_task()
            if not call.gone or task is None:
                raise
            task.uncancel()
            # Nobody reads it, and the server asks for one all the same.
            answer = Answer(408, b"{}")
        except Exception as error:
            call.end(500, Counted())
            answer = defect(call.id, scope, error)
        await answer(scope, receive, send)


def defect(call_id: str, scope: Scope, error: Exception) -> Answer:
    """A defect of ours: told in the log, and to the client as little as can be."""
    _LOG.error("%s %s %s", call_id, scope["method"], scope["path"][:200], exc_info=error)
    return refused(ApiError(500, "The gateway failed; it is written down"), call_id)


async def generate(call: Call) -> Answer | Passing:
    """Checks, rebuilds, sends on, and passes the bytes back.

    Raises:
        ApiError: what is wrong with the body, the model, the key's limits or the engine.
    """
    call.body = check_body(call.path, call.body)
    route = call.choose()
    if route.head is not None:
        raise ApiError(
            400, f"{route.name} reads and does not write; ask POST {CLASSIFY}",
            param="model", code="unsupported",
        )  # fmt: skip
    call.charge()
    return await forwarded(call, route)


async def classify(call: Call) -> Answer:
    """Calibrated probabilities of a model's labels.

    Raises:
        ApiError: as ``generate``; 400 for a model without labels, 501 for an engine that
            gives no probabilities.
    """
    given, door = parse_classify(call.body), call.door
    route = call.choose()
    if not route.writes_more:
        raise ApiError(
            501, "This engine chats only, and gives no probabilities; serve with vLLM",
            code="unsupported",
        )  # fmt: skip
    if route.reading is None or (route.head is None and route.scores is None):
        raise ApiError(
            400, f"{route.name} has no labels to choose from; name a model that classifies",
            param="model", code="unsupported",
        )  # fmt: skip
    call.charge()

    async def ask(path: str, data: bytes) -> tuple[int, bytes]:
        begun = await asked(route, path, data, door.limits)
        begun.close()
        return begun.status, begun.first

    tree, answers, tokens = await classified(route, given, ask)
    if door.metrics is not None:
        for one in answers:
            if one.probabilities is None or one.labels is not None:
                continue
            likeliest = max(one.probabilities, key=one.probabilities.__getitem__)
            door.metrics.classified(
                route.counted_as or route.name, likeliest, one.probabilities[likeliest],
                abstained=one.abstained, began=call.began,
            )  # fmt: skip
    call.end(200, Counted(tokens, 0), tree["data"])
    return told(200, tree)
