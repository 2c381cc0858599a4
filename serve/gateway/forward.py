"""One request: rebuilt for the engine, sent, and its bytes passed back."""

from __future__ import annotations

import json
import time
from typing import Any

from serve.engine import Unsupported
from serve.gateway.answer import Answer, told
from serve.gateway.call import Call
from serve.gateway.conversation import as_rendered
from serve.gateway.directory import Route
from serve.gateway.door import DoorLimits
from serve.gateway.errors import ApiError
from serve.gateway.passing import Passing
from serve.gateway.reading import to_bytes
from serve.gateway.stream import Counted, events, renamer
from serve.gateway.upstreams import Begun

_CHAT, _RESPONSES = "/v1/chat/completions", "/v1/responses"


def rebuilt(path: str, body: dict[str, Any], route: Route) -> bytes:
    """A checked request in the engine's words, with the bundle's settings added.

    Raises:
        ApiError: 400 for what the engine cannot honour, 501 for a route that it has not.
    """
    if path != _CHAT and not route.writes_more:
        raise ApiError(501, f"{path}: this engine chats only; serve with vLLM", code="unsupported")
    settings = route.rendering
    made = settings.defaults.added(path, {**body, "model": route.served})
    if path == _CHAT:
        made = _chat(made, route)
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


async def asked(route: Route, path: str, data: bytes, limits: DoorLimits, **more: bool) -> Begun:
    """Sends bytes to a route's engine; see ``UpstreamGroup.send``.

    Raises:
        ApiError: 503 where no engine takes it, 504 where none answers in time.
    """
    try:
        return await route.group.send(path, data, limits.first_byte_s, **more)
    except TimeoutError:
        raise ApiError(
            504, f"The engine did not answer within {limits.first_byte_s:g} s", code="timeout"
        ) from None


async def forwarded(call: Call, route: Route) -> Answer | Passing:
    """Sends a checked request and gives what is to be answered; ends the call with the answer.

    Raises:
        ApiError: 503 where no engine takes it, 504 where none answers in time.
    """
    body, path = call.body, call.path
    streamed = bool(body.get("stream"))
    scored = scores_prompt(body)
    if scored:
        _require_one(body, route)
    data = rebuilt(path, body, route)
    begun = await asked(route, path, data, call.door.limits, alone=scored, stream=streamed)
    renamed, counted = renamer(route.echo, route.name), Counted()
    if begun.status == 200 and streamed:
        options = body.get("stream_options") or {}
        chunks = events(
            begun.first, begun.answer.content, renamed, counted,
            keep_usage=bool(options.get("include_usage")) or path == _RESPONSES,
            responses=path == _RESPONSES, says_done=route.writes_more,
        )  # fmt: skip
        counted.first_at = time.monotonic()
        return Passing(call, begun, chunks, counted)
    begun.close()
    if path == _RESPONSES:
        counted.read_response(begun.first)
    else:
        counted.read(begun.first)
    call.end(begun.status, counted)
    if begun.status == 200:
        return Answer(200, renamed(begun.first))
    return told(begun.status, refusal(begun.status, begun.first))


def refusal(status: int, raw: bytes) -> Any:
    """An engine's refusal, in OpenAI's shape whatever the engine's own is."""
    try:
        body = json.loads(raw)
    except ValueError:
        body = raw[:300].decode("utf-8", "replace")
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        # vLLM's code is the status once more, a number; OpenAI's is a word or null.
        words = {key: error.get(key) for key in ("param", "code")}
        words = {key: value if isinstance(value, str) else None for key, value in words.items()}
        return {"error": {**error, "type": str(error.get("type") or "api_error"), **words}}
    detail = body.get("detail", body) if isinstance(body, dict) else body
    return ApiError(status, f"The engine said: {detail}").body()
