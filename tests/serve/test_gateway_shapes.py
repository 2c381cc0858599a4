"""What makes an engine compile is bounded before it gets there, and saying no costs little."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from serve.gateway.bodies import check_body
from serve.gateway.errors import ApiError
from serve.gateway.reading import parse_object

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
NESTED = "((a{99}){99}){99}"
INTENTS = {
    "type": "object",
    "properties": {
        "intent": {"enum": ["balance", "card"]},
        "maxLength": {"type": "string", "maxLength": 200, "pattern": "^[a-z]{1,20}$"},
        "also": {"$ref": "#/$defs/many"},
    },
    "$defs": {"many": {"type": "array", "maxItems": 5, "items": {"type": "integer"}}},
    "required": ["intent"],
}


def as_format(schema: Any) -> dict[str, Any]:
    named = {"name": "x", "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


@pytest.mark.parametrize(
    "more",
    [
        as_format(INTENTS),
        {"structured_outputs": {"json": INTENTS}},
        # Properties of these names, whose schemas are no patterns.
        as_format({"properties": {"pattern": True, "patternProperties": {"type": "string"}}}),
        {"structured_outputs": {"choice": ["a", "b"]}},
        {"structured_outputs": {"regex": "(yes|no)+"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "text"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": INTENTS}}]},
    ],
)
def test_everyday_shapes_pass_unchanged(more: dict[str, Any]) -> None:
    body = {**CHAT, **more}
    assert check_body("/v1/chat/completions", body) == body


@pytest.mark.parametrize(
    "more",
    [
        # As text a schema would pass unread.
        {"structured_outputs": {"json": json.dumps({"type": "string", "pattern": NESTED})}},
        {"structured_outputs": {"json": {"type": "string", "pattern": NESTED}}},
        {"structured_outputs": {"json": {"type": "string", "maxLength": 10**9}}},
        {"structured_outputs": {"structural_tag": "{}"}},
        as_format({"type": "array", "minItems": 10**9}),
        as_format({"type": "array", "maxItems": 1e300}),
        as_format({"type": "string", "minLength": -1}),
        as_format({"properties": {"a": {"items": {"maxProperties": 20_000}}}}),
        as_format({"$ref": "http://169.254.169.254/latest"}),
        as_format({"allOf": [{"$ref": "file:///etc/passwd"}]}),
        as_format({"patternProperties": {NESTED: {}}}),
        as_format({"pattern": 5, "patternProperties": 3, "items": {"pattern": NESTED}}),
        # Structural tags hold grammars and patterns in places of their own.
        {"response_format": {"type": "structural_tag", "structures": [], "triggers": []}},
        {"response_format": {"type": "grammar", "grammar": "root ::= x"}},
        {"response_format": {"json_schema": {"schema": {}}}},
        {"response_format": {"type": [None]}},
        {"tools": [{"type": "function", "function": {
            "name": "f", "parameters": {"type": "string", "pattern": NESTED}}}]},
    ],
)  # fmt: skip
def test_shapes_that_would_keep_an_engine_compiling_are_400(more: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        check_body("/v1/chat/completions", {**CHAT, **more})
    assert caught.value.status == 400
    assert (caught.value.param or "").split(".")[0] == next(iter(more))


def test_a_responses_format_is_bounded_too() -> None:
    body = {"model": "m", "input": "x", "text": {"format": {"type": "structural_tag"}}}
    with pytest.raises(ApiError, match="type is one of"):
        check_body("/v1/responses", body)


FLOODS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"model": "m", "prompt": [-1] * 262_000}),
    ("/v1/completions", {"model": "m", "prompt": [[-1] * 1_000] * 256}),
    ("/v1/completions", {"model": "m", "prompt": [5.5] * 180_000}),
    ("/v1/chat/completions", {**CHAT, **{f"k{n}": 1 for n in range(80_000)}}),
    ("/v1/chat/completions", {**CHAT, "metadata": {str(n): 1 for n in range(80_000)}}),
    ("/v1/chat/completions", {**CHAT, "stop": [""] * 200_000}),
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "x", "content": 5}] * 30_000}),
    ("/v1/chat/completions",
     {**CHAT, "messages": [{"role": "user", "content": [{"type": "z"}] * 60_000}]}),
    ("/v1/chat/completions", {**CHAT, "tools": [5] * 400_000}),
    ("/v1/responses", {"model": "m", "input": [5] * 400_000}),
    ("/v1/responses", {"model": "m", "input": [{}] * 4_096}),
    ("/v1/embeddings", {"model": "m", "input": [[]] * 250_000}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), FLOODS, ids=range(len(FLOODS)))
def test_a_flood_of_errors_costs_no_more_than_reading_it(path: str, body: dict[str, Any]) -> None:
    """The loop serves everybody: an error written out for each item took it 1.7 seconds."""
    raw = json.dumps(body).encode()
    began = time.process_time()
    json.loads(raw)
    reading_s = time.process_time() - began
    began = time.process_time()
    with pytest.raises(ApiError) as caught:
        check_body(path, parse_object(raw))
    assert time.process_time() - began < 20 * reading_s + 0.2
    assert len(caught.value.message) < 1_000


def test_a_long_name_of_a_field_is_not_sent_back_whole() -> None:
    with pytest.raises(ApiError) as caught:
        check_body("/v1/chat/completions", {**CHAT, "a" * 100_000: 1})
    assert len(json.dumps(caught.value.body())) < 1_000
