"""One request: rebuilt for the engine, sent, and its bytes passed back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from starlette.responses import JSONResponse, Response, StreamingResponse

from serve.engine import Unsupported
from serve.gateway.conversation import as_rendered
from serve.gateway.directory import Route
from serve.gateway.door import DoorLimits
from serve.gateway.errors import ApiError, away
from serve.gateway.reading import to_bytes
from serve.gateway.stream import DONE, Counted, Renamer, events, gone
from serve.gateway.upstreams import Upstream

_STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_CHAT = "/v1/chat/completions"


def rebuilt(path: str, body: dict[str, Any], route: Route) -> bytes:
    """A checked request in the engine's words, with the bundle's settings added.

    Raises:
        ApiError: 400 for what the engine cannot honour, 501 for a route that it has not.
    """
    if path != _CHAT and not route.writes_more:
        raise ApiError(501, f"{path}: this engine chats only; serve with vLLM", code="unsupported")
    settings = route.rendering
    made = {**body, "model": route.served}
    if path == _CHAT:
        made = _chat(made, route)
    if settings.stop_token_ids and path in {_CHAT, "/v1/completions"}:
        made["stop_token_ids"] = list(settings.stop_token_ids)
    if made.get("stream") and path in {_CHAT, "/v1/completions"}:
        # Usage is counted by what the engine says.
        made["stream_options"] = {**(made.get("stream_options") or {}), "include_usage": True}
    try:
        return to_bytes(settings.rewrite(made) if path == _CHAT else made)
    except Unsupported as error:
        raise ApiError(400, str(error), param=error.field, code="unsupported") from None


def _require_one(body: dict[str, Any], route: Route) -> None:
    """Several prompts of one request are several at once: what must be alone may not be many."""
    prompt = body.get("prompt")
    many = isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)
    if many and any(member.scores_alone for member in route.group.members):
        raise ApiError(
            400,
            "prompt: one at a time, where its log-probabilities are asked of an engine with "
            "adapters",
            param="prompt",
            code="unsupported",
        )


def scores_prompt(body: dict[str, Any]) -> bool:
    """Whether it asks for log-probabilities of the prompt's own tokens."""
    echoed = body.get("echo") and body.get("logprobs") is not None
    return bool(echoed) or body.get("prompt_logprobs") is not None


def _chat(body: dict[str, Any], route: Route) -> dict[str, Any]:
    settings = route.rendering
    roles = {message["role"] for message in body["messages"]}
    if settings.system is not None and not roles & {"system", "developer"}:
        system = {"role": "system", "content": settings.system}
        body = {**body, "messages": [system, *body["messages"]]}
    body = as_rendered(body, settings.controls)
    if settings.template_kwargs:
        body["chat_template_kwargs"] = dict(settings.template_kwargs)
    return body


async def forwarded(
    path: str,
    body: dict[str, Any],
    route: Route,
    limits: DoorLimits,
    done: Callable[[int, Counted], None],
) -> Response:
    """Sends a checked request and gives what is to be answered.

    Args:
        done: told once, when the answer is over: its status and its tokens.

    Raises:
        ApiError: 503 where no engine takes it, 504 where none answers in time.
    """
    scored = scores_prompt(body)
    if scored:
        _require_one(body, route)
    data = rebuilt(path, body, route)
    try:
        upstream, answer = await route.group.send(path, data, limits.first_byte_s, alone=scored)
    except TimeoutError:
        raise _late(limits.first_byte_s) from None
    counted = Counted()
    renamed = Renamer(route.echo, route.name)
    if answer.status == 200 and body.get("stream"):
        options = body.get("stream_options") or {}
        return StreamingResponse(
            _stream(
                answer, upstream, renamed, counted, limits, done,
                keep_usage=bool(options.get("include_usage")) or path == "/v1/responses",
                ends_with_done=path != "/v1/responses", says_done=route.writes_more,
            ),
            media_type="text/event-stream",
            headers=_STREAM,
        )  # fmt: skip
    try:
        async with asyncio.timeout(limits.total_s):
            raw = await answer.read()
    except TimeoutError:
        raise _late(limits.total_s) from None
    except (aiohttp.ClientError, OSError):
        raise away("The engine went away; try again later") from None
    finally:
        upstream.leave()
        answer.close()
    counted.read(raw)
    done(answer.status, counted)
    if answer.status == 200:
        return Response(renamed(raw), media_type="application/json")
    return JSONResponse(refusal(answer.status, raw), answer.status)


async def _stream(
    answer: aiohttp.ClientResponse,
    upstream: Upstream,
    renamed: Renamer,
    counted: Counted,
    limits: DoorLimits,
    done: Callable[[int, Counted], None],
    *,
    keep_usage: bool,
    ends_with_done: bool,
    says_done: bool,
) -> AsyncIterator[bytes]:
    passed = events(
        answer,
        renamed,
        counted,
        keep_usage=keep_usage,
        ends_with_done=ends_with_done,
        says_done=says_done,
    )
    try:
        async with asyncio.timeout(limits.total_s):
            async for chunk in passed:
                if counted.first_at is None:
                    counted.first_at = time.monotonic()
                if DONE in chunk[-64:]:
                    # Before the last bytes go: whoever has them may ask again at once, and the
                    # place among those under way has to be free by then.
                    done(200, counted)
                yield chunk
    except TimeoutError:
        yield gone(f"The answer took longer than {limits.total_s:g} s")
    finally:
        # Where the client went first, this ends the engine's work on its request.
        answer.close()
        upstream.leave()
        done(200, counted)


def refusal(status: int, raw: bytes) -> Any:
    """An engine's refusal, in OpenAI's shape whatever the engine's own is."""
    try:
        body = json.loads(raw)
    except ValueError:
        body = raw[:300].decode("utf-8", "replace")
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return body
    detail = body.get("detail", body) if isinstance(body, dict) else body
    return ApiError(status, f"The engine said: {detail}").body()


def _late(seconds: float) -> ApiError:
    return ApiError(504, f"The engine did not answer within {seconds:g} s", code="timeout")
