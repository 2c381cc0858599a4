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
}
_OPEN = {"/healthz", "/readyz"}


@functools.cache
def description() -> dict[str, Any]:
    """The document of /openapi.json."""
    models = list({model for model, _ in _POSTED.values()})
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {}
    for path, (model, what) in _POSTED.items():
        schema = {"$ref": f"#/components/schemas/{model.__name__}"}
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        paths[path] = {"post": {**_operation(path, what), "requestBody": body}}
    for path, what in _GOT.items():
        paths[path] = {"get": _operation(path, what)}
        if "{name}" in path:
            paths[path]["get"]["parameters"] = [
                {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
            ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "gradus", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


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


def _operation(path: str, what: str) -> dict[str, Any]:
    error = {
        "description": "A refusal",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    return {
        "summary": what,
        "security": [] if path in _OPEN else [{"key": []}],
        "responses": {"200": {"description": what}, "default": error},
    }
