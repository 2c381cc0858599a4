"""The door before an engine: a closed table of names, checked requests, bytes passed through.

Thin on purpose: it holds what an engine lacks (refusals, names, the bundle's own settings)
and nothing that an engine has.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from serve.bundle import Bundle, BundleBase
from serve.conversation import as_rendered
from serve.engine import Engine, Unsupported
from serve.protocol import MAX_BODY_BYTES, ApiError, parse_chat, to_bytes

# An answer that is not streamed comes whole at its end, so the limit is on silence.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=600)
_JSON = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


def create_app(bundle: Bundle, engine: Engine, api_key: str | None = None) -> FastAPI:
    """The gateway for one bundle and one engine.

    Args:
        bundle: Whose names and settings count.
        engine: Where requests go; it may come and go.
        api_key: What clients must send as bearer; None leaves /v1 open to whoever reaches
            a loopback address.

    Returns:
        An ASGI application with /v1/models, /v1/chat/completions, /healthz and /readyz.
    """
    gateway = _Gateway(bundle, engine, api_key)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            base_url=engine.base_url,
            timeout=_TIMEOUT,
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            gateway.session = session
            yield

    app = FastAPI(
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={ApiError: _refuse, HTTPException: _refuse_route},
    )
    for path, handler, method in (
        ("/v1/models", gateway.list_models, "GET"),
        ("/v1/models/{name}", gateway.get_model, "GET"),
        ("/v1/chat/completions", gateway.chat, "POST"),
        ("/healthz", gateway.healthz, "GET"),
        ("/readyz", gateway.readyz, "GET"),
    ):
        app.add_api_route(path, handler, methods=[method], response_model=None)
    return app


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return JSONResponse(error.body(), error.status, headers)


async def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path[:200]}"
    return JSONResponse(ApiError(error.status_code, message).body(), error.status_code)


class _Gateway:
    """The routes' handlers and what they share."""

    session: aiohttp.ClientSession

    def __init__(self, bundle: Bundle, engine: Engine, api_key: str | None) -> None:
        self._bundle = bundle
        self._engine = engine
        self._key = None if api_key is None else api_key.encode()
        self._cards = {card["id"]: card for card in _cards(bundle)}

    async def healthz(self) -> Response:
        """This process answers."""
        return JSONResponse({"status": "ok"})

    async def readyz(self) -> Response:
        """The engine answers, so a request sent now will be served."""
        if self._engine.alive():
            try:
                limit = aiohttp.ClientTimeout(total=5)
                async with self.session.get("/health", timeout=limit) as answer:
                    if answer.status == 200:
                        return JSONResponse({"status": "ready"})
            except (aiohttp.ClientError, TimeoutError):
                pass
        return JSONResponse({"status": "engine away"}, 503)

    async def list_models(self, request: Request) -> Response:
        """Every public name, with its place in the family."""
        self._admit(request)
        return JSONResponse({"object": "list", "data": list(self._cards.values())})

    async def get_model(self, request: Request, name: str) -> Response:
        """One public name's card."""
        self._admit(request)
        if name not in self._cards:
            raise _no_model(name)
        return JSONResponse(self._cards[name])

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions: check, rebuild, send on, pass the bytes back."""
        self._admit(request)
        body = parse_chat(await _read(request))
        public = body["model"]
        served = self._engine.models.get(public)
        if served is None:
            raise _no_model(public)
        renamed = _Renamer(self._engine.echoes[served], public)
        answer = await self._send(self._rebuild(body, served))
        if answer.status != 200 or not body.get("stream"):
            return await _whole(answer, renamed)
        return StreamingResponse(
            _stream(answer, renamed),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    def _admit(self, request: Request) -> None:
        if self._key is None:
            # A web page can point its own name at 127.0.0.1; its Host then betrays it.
            host = request.headers.get("host", "").rpartition("@")[2]
            if not is_loopback(re.sub(r":\d*$", "", host).strip("[]")):
                raise ApiError(403, "Without an API key, only loopback host names are answered")
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        # Header text is latin-1 on the way in; the key's own bytes are UTF-8.
        given = token.strip().encode("latin-1")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._key):
            raise ApiError(401, "Missing or wrong API key", code="invalid_api_key")

    def _rebuild(self, body: dict[str, Any], served: str) -> bytes:
        """The client's request in the engine's words, with the bundle's settings added."""
        bundle = self._bundle
        body = {**body, "model": served}
        roles = {message["role"] for message in body["messages"]}
        if bundle.system is not None and not roles & {"system", "developer"}:
            system = {"role": "system", "content": bundle.system}
            body["messages"] = [system, *body["messages"]]
        body = as_rendered(body, bundle.controls)
        if bundle.chat_template_kwargs:
            body["chat_template_kwargs"] = dict(bundle.chat_template_kwargs)
        if bundle.stop_token_ids:
            body["stop_token_ids"] = list(bundle.stop_token_ids)
        try:
            return to_bytes(self._engine.request(body))
        except Unsupported as error:
            raise ApiError(400, str(error), param=error.field, code="unsupported") from None

    async def _send(self, data: bytes) -> aiohttp.ClientResponse:
        if not self._engine.alive():
            raise ApiError(503, "The engine is away; try again later", code="engine_away")
        try:
            return await self.session.post("/v1/chat/completions", data=data, headers=_JSON)
        except (aiohttp.ClientError, TimeoutError):
            raise ApiError(
                503, "The engine did not answer; try again later", code="engine_away"
            ) from None


def _cards(bundle: Bundle) -> list[dict[str, Any]]:
    created = int((bundle.root / "bundle.json").stat().st_mtime)
    return [
        {
            "id": model.name,
            "object": "model",
            "created": created,
            "owned_by": "gradus",
            "metadata": {
                "level": model.level,
                "base": None if isinstance(model, BundleBase) else bundle.base.name,
                "version": model.digest[:8],
                "bundle": bundle.name,
                "ungated": bundle.ungated,
            },
        }
        for model in bundle.models
    ]


def _no_model(name: str) -> ApiError:
    message = f"The model {name[:200]!r} does not exist or you do not have access to it"
    return ApiError(404, message, param="model", code="model_not_found")


async def _read(request: Request) -> bytes:
    """The body, at most MAX_BODY_BYTES of it ever in memory."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A web page may send text/plain anywhere without asking; application/json it may not.
    if kind != "application/json":
        raise ApiError(415, "Content-Type must be application/json")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ApiError(415, "Content-Encoding must be identity")
    too_large = ApiError(413, f"The body is larger than {MAX_BODY_BYTES} bytes")
    if int(request.headers.get("content-length", "0")) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)


class _Renamer:
    """Writes a public model name where an answer holds the engine's own.

    Inside a JSON string a quote is escaped, so ``"model":"..."`` can only be a key.
    """

    def __init__(self, echo: str, public: str) -> None:
        self.needed = echo != public
        quoted = json.dumps(echo, ensure_ascii=False).encode()
        self._pattern = re.compile(rb'"model"\s*:\s*' + re.escape(quoted))
        self._public = b'"model":' + json.dumps(public).encode()

    def __call__(self, data: bytes) -> bytes:
        return self._pattern.sub(lambda _: self._public, data, count=1) if self.needed else data


async def _whole(answer: aiohttp.ClientResponse, renamed: _Renamer) -> Response:
    try:
        data = await answer.read()
    except (aiohttp.ClientError, TimeoutError):
        raise ApiError(503, "The engine went away; try again later", code="engine_away") from None
    if answer.status == 200:
        return Response(renamed(data), media_type="application/json")
    return JSONResponse(_error_body(answer.status, data), answer.status)


def _error_body(status: int, data: bytes) -> Mapping[str, Any]:
    """An engine's refusal, in OpenAI's shape whatever the engine's own is."""
    try:
        body = json.loads(data)
    except ValueError:
        body = data[:300].decode("utf-8", "replace")
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return body
    detail = body.get("detail", body) if isinstance(body, dict) else body
    return ApiError(status, f"The engine said: {detail}").body()


async def _stream(answer: aiohttp.ClientResponse, renamed: _Renamer) -> AsyncIterator[bytes]:
    """The engine's events; an error event, never a clean end, where the engine goes away."""
    try:
        if not renamed.needed:
            async for chunk in answer.content.iter_any():
                yield chunk
            return
        last = b""
        async for line in answer.content:
            last = line.strip() or last
            yield renamed(line)
        if last != b"data: [DONE]" and not last.startswith(b'data: {"error"'):
            yield b"data: [DONE]\n\n"
    except (aiohttp.ClientError, TimeoutError, ValueError):
        gone = ApiError(503, "The engine went away", code="engine_away").body()
        yield b"\n\ndata: " + json.dumps(gone).encode() + b"\n\n"
    finally:
        # Where the client went first, this ends the engine's work on its request.
        answer.close()


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
