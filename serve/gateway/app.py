"""The gateway's application: its routes, and nothing but them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Route as Path
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.gateway.answer import refused
from serve.gateway.call import Call
from serve.gateway.door import Door
from serve.gateway.errors import ApiError, no_model, own_id
from serve.gateway.openapi import description
from serve.gateway.page import page_routes
from serve.gateway.posts import defect, posts
from serve.gateway.wire import WIRE


class Gateway(FastAPI):
    """The application, whose calls are answered before a framework looks for their route.

    Attributes:
        posts: what answers a POST, by its path as it is written.
    """

    posts: Mapping[bytes, ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        raw = scope.get("raw_path") or scope["path"].encode()
        answers = self.posts.get(raw) if scope["method"] == "POST" else None
        try:
            if answers is not None:
                await answers(scope, receive, send)
            elif b"%" in raw or b"//" in raw or b"/." in raw or b"\\" in raw:
                # Paths that are written in the one plain way alone, so that nobody reads another.
                error = ApiError(404, "Not Found: a path with escapes, dots or doubled slashes")
                given = Headers(scope=scope).get("x-request-id", "")
                await refused(error, own_id(given))(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            # Each would hold the other until the collector finds them.
            scope.pop(WIRE, None)


def create_app(door: Door) -> FastAPI:
    """The gateway of one door.

    Returns:
        An ASGI application; what is not a route of it answers 404 in OpenAI's shape.
    """
    handlers = _Handlers(door)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        groups = door.directory.groups()
        for group in groups:
            await group.open()
        try:
            yield
        finally:
            for group in groups:
                await group.close()

    app = Gateway(
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={
            ApiError: _refuse,
            HTTPException: _refuse_route,
            Exception: _defect,
        },
    )
    calls = posts(door)
    app.posts = {path.encode(): answers for path, answers in calls.items()}
    # As routes too: other methods of theirs are told which one it is.
    for path, answers in calls.items():
        app.router.routes.append(Path(path, answers, methods=["POST"]))
    for path, handler in (
        ("/v1/models", handlers.list_models),
        ("/v1/models/{name}", handlers.get_model),
        ("/healthz", handlers.healthz),
        ("/readyz", handlers.readyz),
        ("/metrics", handlers.metrics),
        ("/openapi.json", handlers.openapi),
    ):
        app.router.routes.append(Path(path, handler, methods=["GET"]))
    app.router.routes.extend(page_routes(keyed=door.keys is not None))
    return app


class _Handlers:
    """The routes' handlers."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def healthz(self, request: Request) -> Response:
        """This process answers."""
        return JSONResponse({"status": "ok"}, headers={"x-request-id": _id(request)})

    async def readyz(self, request: Request) -> Response:
        """An engine answers, so a request sent now will be served."""
        headers = {"x-request-id": _id(request)}
        if self._door.ready:
            return JSONResponse({"status": "ready"}, headers=headers)
        what = "stopping" if self._door.draining else "engine away"
        return JSONResponse({"status": what}, 503, headers)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text; with keys, for one that may read it."""
        call = Call(self._door, request.scope, request.receive)
        call.admit()
        if call.key is not None and not call.key.metrics:
            # It names everybody's models, and what they are asked.
            raise ApiError(403, "This key may not read /metrics; `gradus keys add --metrics`")
        metrics = self._door.metrics
        if metrics is None:
            raise HTTPException(404, "Not Found")
        for group in self._door.directory.groups():
            for member in group.members:
                metrics.upstream(member.base_url, member.usable, member.in_flight)
        return Response(metrics.render(), 200, call.headers, metrics.content_type)

    async def openapi(self, request: Request) -> Response:
        """What the routes take."""
        told = description(keyed=self._door.keys is not None)
        return JSONResponse(told, headers={"x-request-id": _id(request)})

    async def list_models(self, request: Request) -> Response:
        """Every public name that this key may ask, with its place in the family."""
        call = Call(self._door, request.scope, request.receive)
        call.admit()
        mine = None if call.key is None else call.key.models
        cards = [c for c in self._door.directory.cards() if not mine or c["id"] in mine]
        return JSONResponse({"object": "list", "data": cards}, headers=call.headers)

    async def get_model(self, request: Request) -> Response:
        """One public name's card."""
        call = Call(self._door, request.scope, request.receive)
        call.admit()
        name = str(request.path_params["name"])
        mine = call.key is None or not call.key.models or name in call.key.models
        for card in self._door.directory.cards() if mine else ():
            if card["id"] == name:
                return JSONResponse(card, headers=call.headers)
        raise no_model(name)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    # A call has its own id already.
    headers = {"x-request-id": _id(request), **error.headers}
    return JSONResponse(error.body(), error.status, headers)


async def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path[:200]}"
    headers = {**(error.headers or {}), "x-request-id": _id(request)}
    return JSONResponse(ApiError(error.status_code, message).body(), error.status_code, headers)


async def _defect(request: Request, error: Exception) -> Response:
    told = defect(_id(request), request.scope, error)
    return Response(told.body, told.status, told.headers, "application/json")


def _id(request: Request) -> str:
    return own_id(request.headers.get("x-request-id", ""))
