"""The gateway's application: its routes, and nothing but them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route as Path

from serve.gateway.bodies import check_body
from serve.gateway.call import CLIENT_GONE, Call
from serve.gateway.classified import classified
from serve.gateway.classify import parse_classify
from serve.gateway.door import Door
from serve.gateway.errors import ApiError, no_model, own_id
from serve.gateway.forward import asked, forwarded
from serve.gateway.openapi import description
from serve.gateway.page import page_routes
from serve.gateway.stream import Counted

GENERATED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
_LOG = logging.getLogger("gradus.gateway")


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

    app = FastAPI(
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={
            ApiError: _refuse,
            HTTPException: _refuse_route,
            Exception: _defect,
        },
    )
    # Plain routes: a body is read within the door's own limits, not by a framework.
    for path in GENERATED:
        app.router.routes.append(Path(path, handlers.generate, methods=["POST"]))
    for path, handler, method in (
        ("/v1/classify", handlers.classify, "POST"),
        ("/v1/models", handlers.list_models, "GET"),
        ("/v1/models/{name}", handlers.get_model, "GET"),
        ("/healthz", handlers.healthz, "GET"),
        ("/readyz", handlers.readyz, "GET"),
        ("/metrics", handlers.metrics, "GET"),
        ("/openapi.json", handlers.openapi, "GET"),
    ):
        app.router.routes.append(Path(path, handler, methods=[method]))
    app.router.routes.extend(page_routes(keyed=door.keys is not None))
    return app


class _Handlers:
    """The routes' handlers."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def healthz(self, request: Request) -> Response:
        """This process answers."""
        return JSONResponse({"status": "ok"}, headers={"x-request-id": own_id(request.headers)})

    async def readyz(self, request: Request) -> Response:
        """An engine answers, so a request sent now will be served."""
        headers = {"x-request-id": own_id(request.headers)}
        if self._door.ready:
            return JSONResponse({"status": "ready"}, headers=headers)
        what = "stopping" if self._door.draining else "engine away"
        return JSONResponse({"status": what}, 503, headers)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text; with keys, for one of them only."""
        call = Call.of(self._door, request)
        call.admit()
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
        return JSONResponse(told, headers={"x-request-id": own_id(request.headers)})

    async def list_models(self, request: Request) -> Response:
        """Every public name that this key may ask, with its place in the family."""
        call = Call.of(self._door, request)
        call.admit()
        mine = None if call.key is None else call.key.models
        cards = [c for c in self._door.directory.cards() if not mine or c["id"] in mine]
        return JSONResponse({"object": "list", "data": cards}, headers=call.headers)

    async def get_model(self, request: Request) -> Response:
        """One public name's card."""
        call = Call.of(self._door, request)
        call.admit()
        name = str(request.path_params["name"])
        mine = call.key is None or not call.key.models or name in call.key.models
        for card in self._door.directory.cards() if mine else ():
            if card["id"] == name:
                return JSONResponse(card, headers=call.headers)
        raise no_model(name)

    async def generate(self, request: Request) -> Response:
        """Checks, rebuilds, sends on, and passes the bytes back."""

        async def answer(call: Call) -> Response:
            call.body = check_body(call.path, call.body)
            route = call.choose()
            if route.head is not None:
                raise ApiError(
                    400, f"{route.name} reads and does not write; ask POST /v1/classify",
                    param="model", code="unsupported",
                )  # fmt: skip
            call.charge()
            return await forwarded(call, route)

        return await self._called(request, answer)

    async def classify(self, request: Request) -> Response:
        """A head's calibrated probabilities."""

        async def answer(call: Call) -> Response:
            given = parse_classify(call.body)
            route = call.choose()
            if route.reading is None or (route.head is None and route.scores is None):
                raise ApiError(
                    501, f"{route.name} has no labels to choose from; name a model that classifies",
                    param="model", code="unsupported",
                )  # fmt: skip
            call.charge()

            async def ask(path: str, data: bytes) -> tuple[int, bytes]:
                begun = await asked(route, path, data, self._door.limits)
                begun.close()
                return begun.status, begun.first

            tree, answers, tokens = await classified(route, given, ask)
            if self._door.metrics is not None:
                for one in answers:
                    if one.probabilities is None or one.labels is not None:
                        continue
                    likeliest = max(one.probabilities, key=one.probabilities.__getitem__)
                    self._door.metrics.classified(
                        route.name, likeliest, one.probabilities[likeliest],
                        abstained=one.abstained,
                    )  # fmt: skip
            call.end(200, Counted(tokens, 0), tree["data"])
            return JSONResponse(tree)

        return await self._called(request, answer)

    async def _called(
        self, request: Request, answer: Callable[[Call], Awaitable[Response]]
    ) -> Response:
        """A call from its head to its end, however it ends."""
        call = Call.of(self._door, request)
        status = 500
        try:
            call.admit()
            await call.read()
            response = await answer(call)
        except ApiError as error:
            status = error.status
            error.headers = {**call.headers, **error.headers}
            call.end(status, Counted())
            raise
        except asyncio.CancelledError:
            call.end(CLIENT_GONE if call.gone else status, Counted())
            task = asyncio.current_task()
            if not call.gone or task is None:
                raise
            task.uncancel()
            # Nobody reads it.
            return Response(status_code=408)
        except BaseException:
            call.end(status, Counted())
            raise
        for name, value in call.headers.items():
            response.headers[name] = value
        return response


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    # A call has its own id already.
    headers = {"x-request-id": own_id(request.headers), **error.headers}
    return JSONResponse(error.body(), error.status, headers)


async def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path[:200]}"
    headers = {**(error.headers or {}), "x-request-id": own_id(request.headers)}
    return JSONResponse(ApiError(error.status_code, message).body(), error.status_code, headers)


async def _defect(request: Request, error: Exception) -> Response:
    """A defect of ours: told in the log, and to the client as little as can be."""
    call_id = own_id(request.headers)
    _LOG.error("%s %s %s", call_id, request.method, request.url.path[:200], exc_info=error)
    failed = ApiError(500, "The gateway failed; it is written down")
    return JSONResponse(failed.body(), 500, {"x-request-id": call_id})
