"""What the routes take, as OpenAPI 3.1: from the same models that check it."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve.gateway.bodies import (
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    ResponsesRequest,
)
from serve.gateway.classify import ClassifyRequest

_POSTED: dict[str, tuple[type[BaseModel], str]] = {
    "/v1/chat/completions": (ChatRequest, "A chat completion"),
    "/v1/completions": (CompletionRequest, "A completion"),
    "/v1/responses": (ResponsesRequest, "A response; nothing is kept"),
    "/v1/embeddings": (EmbeddingsRequest, "Embeddings, where the engine has them"),
    "/v1/classify": (ClassifyRequest, "Calibrated probabilities of a model with a head"),
}
_GOT = {
    "/v1/models": "Every public name that this key may ask",
    "/v1/models/{name}": "One of them",
    "/healthz": "This process answers",
    "/readyz": "A request sent now will be served",
    "/metrics": "Prometheus' text",
    "/openapi.json": "This document",
}
_OPEN = {"/healthz", "/readyz", "/openapi.json"}
_STREAMS = {"/v1/chat/completions", "/v1/completions", "/v1/responses"}


@functools.cache
def description(*, keyed: bool = True) -> dict[str, Any]:
    """The document of /openapi.json.

    Args:
        keyed: this gateway asks for keys.
    """
    models = list({model for model, _ in _POSTED.values()})
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {}
    for path, (model, what) in _POSTED.items():
        body = {"required": True, "content": _json(model.__name__)}
        paths[path] = {"post": {**_operation(path, what, keyed), "requestBody": body}}
    for path, what in _GOT.items():
        paths[path] = {"get": _operation(path, what, keyed)}
        if "{name}" in path:
            paths[path]["get"]["parameters"] = [
                {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
            ]
    paths["/readyz"]["get"]["responses"]["503"] = {
        "description": "It would not: no engine answers, or the server stops",
        "content": _json("State"),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "gradus", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), **_ANSWERS, "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


_TEXT = {"type": "string"}
_CARD = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by", "metadata"],
    "properties": {
        "id": _TEXT, "object": {"const": "model"}, "created": {"type": "integer"},
        "owned_by": _TEXT, "metadata": {"type": "object"},
    },
}  # fmt: skip
_ANSWERS: dict[str, Any] = {
    "State": {"type": "object", "required": ["status"], "properties": {"status": _TEXT}},
    "Model": _CARD,
    "Models": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
        },
    },
    # The engine's own, byte for byte.
    "Answer": {"type": "object"},
    "Event": {"type": "object", "required": ["data"], "properties": {"data": _TEXT}},
}
_ANSWER_OF = {
    "/healthz": "State", "/readyz": "State", "/v1/models": "Models", "/v1/models/{name}": "Model",
}  # fmt: skip
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _operation(path: str, what: str, keyed: bool) -> dict[str, Any]:
    content = _json(_ANSWER_OF.get(path, "Answer"))
    if path == "/metrics":
        content = {"text/plain": {"schema": _TEXT}}
    if path in _STREAMS:
        content["text/event-stream"] = {"schema": {"$ref": "#/components/schemas/Event"}}
    return {
        "summary": what,
        "security": [{"key": []}] if keyed and path not in _OPEN else [],
        "responses": {
            "200": {"description": what, "content": content},
            "default": {"description": "A refusal", "content": _json("Error")},
        },
    }
