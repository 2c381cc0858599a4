"""A server that speaks like vLLM and computes nothing: answers, streams and fails on demand.

As a library ``stub_app(Stub(...))``; by itself ``python -m tests.serve.stub_engine --port P``.
What an answer says depends on the request alone, so that a client can check it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")


@dataclass
class Stub:
    """What the server does; tests change it while it runs.

    Attributes:
        models: names that it knows.
        tokens: words of an answer where the request does not bound them.
        delay_s: before the first byte.
        first_s: between a stream's head, which vLLM sends at once, and its first chunk.
        chunk_s: between the chunks of a stream.
        breaks: where a connection is cut: "asked" (nothing was answered), "head" (after a
            stream's head); empty: nowhere.
        fail: status of the next answers; 0: none fails.
        die_after: a stream's connection is cut after so many chunks; 0: never.
        fails_after: a stream tells an error after so many chunks, and [DONE] like vLLM's; 0: never.
        healthy: what /health says.
        health_s: before it says it.
        states: how wide the model is that it pools.
        seen: (path, body) of all requests, newest last.
        open, cancelled: requests under way, and those whose client went away.
    """

    models: tuple[str, ...] = ("demo-l0", "demo-l1", "demo-l2")
    tokens: int = 8
    delay_s: float = 0.0
    first_s: float = 0.0
    chunk_s: float = 0.0
    fail: int = 0
    die_after: int = 0
    fails_after: int = 0
    breaks: str = ""
    healthy: bool = True
    health_s: float = 0.0
    states: int = 4
    keep_seen: bool = True
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    open: int = 0
    cancelled: int = 0


STUB: web.AppKey[Stub] = web.AppKey("stub", Stub)


def stub_app(stub: Stub) -> web.Application:
    """The server's application."""
    app = web.Application(client_max_size=64 << 20)
    app[STUB] = stub
    app.add_routes(
        [
            web.get("/health", _health),
            web.get("/v1/models", _models),
            web.post("/v1/chat/completions", _chat),
            web.post("/v1/completions", _completions),
            web.post("/v1/responses", _plain),
            web.post("/v1/embeddings", _plain),
            web.post("/tokenize", _tokenize),
            web.post("/pooling", _pooling),
        ]
    )
    return app


async def _health(request: web.Request) -> web.Response:
    await asyncio.sleep(request.app[STUB].health_s)
    return web.Response(status=200 if request.app[STUB].healthy else 503)


async def _models(request: web.Request) -> web.Response:
    data = [{"id": name, "object": "model"} for name in request.app[STUB].models]
    return web.json_response({"object": "list", "data": data})


async def _read(request: web.Request) -> tuple[Stub, dict[str, Any]]:
    stub, body = request.app[STUB], await request.json()
    if stub.keep_seen:
        stub.seen.append((request.path, body))
    stub.open += 1
    try:
        await asyncio.sleep(stub.delay_s)
    except asyncio.CancelledError:
        stub.cancelled += 1
        raise
    finally:
        stub.open -= 1
    if stub.breaks == "asked":
        _cut(request)
    if stub.fail:
        text = json.dumps({"error": {"message": "as asked", "type": "x", "code": stub.fail}})
        raise _FAILURES.get(stub.fail, web.HTTPInternalServerError)(
            text=text, content_type="application/json"
        )
    if body.get("model") not in stub.models:
        text = json.dumps({"error": {"message": "no such model", "code": 404}})
        raise web.HTTPNotFound(text=text, content_type="application/json")
    return stub, body


def _cut(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


_FAILURES: dict[int, Any] = {
    400: web.HTTPBadRequest, 429: web.HTTPTooManyRequests, 500: web.HTTPInternalServerError,
    503: web.HTTPServiceUnavailable,
}  # fmt: skip


def _usage(prompt: int, answer: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer,
    }  # fmt: skip


def _counts(stub: Stub, body: dict[str, Any]) -> tuple[int, int]:
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    said = json.dumps(body.get("messages") or body.get("prompt") or body.get("input"))
    return len(said.split()), min(stub.tokens, asked) if asked is not None else stub.tokens


async def _chat(request: web.Request) -> web.StreamResponse:
    stub, body = await _read(request)
    prompt, answer = _counts(stub, body)
    words = [WORDS[index % len(WORDS)] for index in range(answer)]
    if body.get("stream"):
        return await _stream(request, stub, body, words, prompt, chat=True)
    choice = {
        "index": 0, "finish_reason": "stop", "logprobs": None,
        "message": {"role": "assistant", "content": " ".join(words)},
    }  # fmt: skip
    return _json("chat.completion", body, [choice], _usage(prompt, answer))


async def _completions(request: web.Request) -> web.StreamResponse:
    stub, body = await _read(request)
    prompt, answer = _counts(stub, body)
    words = [WORDS[index % len(WORDS)] for index in range(answer)]
    if body.get("stream"):
        return await _stream(request, stub, body, words, prompt, chat=False)
    choice = {"index": 0, "finish_reason": "stop", "text": " ".join(words)}
    return _json("text_completion", body, [choice], _usage(prompt, answer))


def _json(
    kind: str, body: dict[str, Any], choices: list[dict[str, Any]], usage: dict[str, int]
) -> web.Response:
    tree = {"id": "stub-1", "object": kind, "created": 1, "model": body["model"],
            "choices": choices, "usage": usage}  # fmt: skip
    return web.Response(body=_compact(tree), content_type="application/json")


def _compact(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


async def _stream(
    request: web.Request,
    stub: Stub,
    body: dict[str, Any],
    words: list[str],
    prompt: int,
    *,
    chat: bool,
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    options = body.get("stream_options") or {}
    head = {"id": "stub-1", "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 1, "model": body["model"]}  # fmt: skip
    stub.open += 1
    try:
        if stub.breaks == "head":
            _cut(request)
            return response
        await asyncio.sleep(stub.first_s)
        for index, word in enumerate(words):
            text = word + " "
            choice: dict[str, Any] = {"index": 0, "finish_reason": None}
            choice |= {"delta": {"content": text}} if chat else {"text": text}
            await response.write(b"data: " + _compact({**head, "choices": [choice]}) + b"\n\n")
            if stub.fails_after and index + 1 >= stub.fails_after:
                error = {"error": {"message": "the core fell", "type": "x", "code": 500}}
                await response.write(b"data: " + json.dumps(error).encode() + b"\n\n")
                break
            if stub.die_after and index + 1 >= stub.die_after:
                _cut(request)
                return response
            # Whoever sent nothing for long is asked whether the client is still there.
            await asyncio.sleep(stub.chunk_s)
        if options.get("include_usage"):
            last = {**head, "choices": [], "usage": _usage(prompt, len(words))}
            await response.write(b"data: " + _compact(last) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
    except (ConnectionError, asyncio.CancelledError):
        stub.cancelled += 1
        raise
    finally:
        stub.open -= 1
    return response


async def _plain(request: web.Request) -> web.Response:
    stub, body = await _read(request)
    prompt, _ = _counts(stub, body)
    tree = {"object": "response" if "responses" in request.path else "list",
            "model": body["model"], "data": [], "usage": _usage(prompt, 0)}  # fmt: skip
    return web.Response(body=_compact(tree), content_type="application/json")


async def _tokenize(request: web.Request) -> web.Response:
    _, body = await _read(request)
    text = json.dumps(body.get("messages") or body.get("prompt"), ensure_ascii=False)
    ids = list(text.encode())
    return web.json_response({"count": len(ids), "max_model_len": 4096, "tokens": ids})


async def _pooling(request: web.Request) -> web.Response:
    """States of which the first tells how long the text was."""
    import base64
    import struct

    stub, body = await _read(request)
    said = body.get("input") or body["messages"][-1]["content"]
    states = [float(len(said)), 1.0, 0.0, -1.0] + [0.0] * (stub.states - 4)
    raw = base64.b64encode(struct.pack(f"<{len(states)}f", *states)).decode()
    count = len(str(said).split())
    return web.json_response(
        {
            "object": "list", "model": body["model"], "usage": _usage(count, 0),
            "data": [{"index": 0, "object": "pooling", "data": raw}],
        }
    )  # fmt: skip


def main() -> None:
    """Serves on loopback until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--models", default="demo-l0,demo-l1,demo-l2")
    asked = parser.parse_args()
    stub = Stub(models=tuple(asked.models.split(",")), tokens=asked.tokens, keep_seen=False)
    # A benchmark's client and this server share a core: every word that is not said helps.
    web.run_app(stub_app(stub), host="127.0.0.1", port=asked.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
