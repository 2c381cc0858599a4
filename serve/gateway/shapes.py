"""Bounds of what makes an engine compile: schemas, grammars, patterns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from serve.gateway.errors import ApiError

MAX_SCHEMA_BYTES = 64 << 10
MAX_SCHEMA_NODES = 2_000
MAX_PATTERN = 1_024
MAX_PATTERN_STATES = 20_000
MAX_CHOICES = 1_024
MAX_REPEAT = 10_000
"""A counted repeat of a schema: an engine may write it out."""
_FORMS = {"choice", "regex", "json"}
_FORMATS = {"text", "json_object", "json_schema"}
_REPEATS = (
    "minLength", "maxLength", "minItems", "maxItems", "minContains", "maxContains",
    "minProperties", "maxProperties",
)  # fmt: skip


def require_small_shapes(body: Mapping[str, Any]) -> None:
    """Refuses shapes that an engine would compile for long.

    Raises:
        ApiError: 400 for one that is too large, nested repeats in a pattern, or an unknown form.
    """
    for name in ("response_format", "structured_outputs", "tools", "text"):
        value = body.get(name)
        if value is not None:
            _small(name, value)
    _known_format("response_format", body.get("response_format"))
    _known_format("text", (body.get("text") or {}).get("format"))
    outputs = body.get("structured_outputs")
    if outputs is None:
        return
    unknown = sorted(set(outputs) - _FORMS)
    if unknown or len(outputs) != 1:
        raise _no("structured_outputs", f"give one of {', '.join(sorted(_FORMS))}")
    choice = outputs.get("choice")
    if choice is not None and not (
        isinstance(choice, list)
        and 0 < len(choice) <= MAX_CHOICES
        and all(isinstance(each, str) and each for each in choice)
    ):
        raise _no("structured_outputs.choice", f"give 1 to {MAX_CHOICES} texts")
    if "json" in outputs and not isinstance(outputs["json"], dict):
        # As text it would pass unread.
        raise _no("structured_outputs.json", "give the schema as an object")
    pattern = outputs.get("regex")
    if pattern is not None:
        _pattern("structured_outputs.regex", pattern)


def _known_format(name: str, value: Any) -> None:
    """Other formats (vLLM's structural tags) hold grammars and patterns in places of their own."""
    if value is None:
        return
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _FORMATS:
        raise _no(name, f"type is one of {', '.join(sorted(_FORMATS))}")


def _small(name: str, value: Any) -> None:
    if len(json.dumps(value)) > MAX_SCHEMA_BYTES:
        raise _no(name, f"larger than {MAX_SCHEMA_BYTES} bytes")
    nodes, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        nodes += 1
        if nodes > MAX_SCHEMA_NODES:
            raise _no(name, f"more than {MAX_SCHEMA_NODES} parts")
        if isinstance(item, dict):
            # Elsewhere, as under "properties", the words are names, and what they hold a schema.
            if isinstance(given := item.get("pattern"), str):
                _pattern(f"{name}: pattern", given)
            if isinstance(given := item.get("patternProperties"), dict):
                for one in given:
                    _pattern(f"{name}: patternProperties", one)
            _bounded(name, item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _bounded(name: str, item: Mapping[str, Any]) -> None:
    for key in _REPEATS:
        count = item.get(key)
        # Elsewhere, as under "properties", the word is a name.
        if isinstance(count, int | float) and not 0 <= count <= MAX_REPEAT:
            raise _no(f"{name}: {key}", f"give 0 to {MAX_REPEAT}")
    place = item.get("$ref", item.get("$dynamicRef", "#"))
    if isinstance(place, str) and not place.startswith("#"):
        raise _no(f"{name}: $ref", "only places of the same schema (#...) are read")


def _pattern(name: str, pattern: Any) -> None:
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        raise _no(name, f"give a pattern of at most {MAX_PATTERN} characters")
    if _states(pattern) > MAX_PATTERN_STATES:
        raise _no(name, "no pattern, or one that repeats its parts too many times")


def _states(pattern: str) -> float:
    """How many states an automaton of it has, roughly: each bounded repeat multiplies.

    Engines match by automata, so ``(a+)+`` costs nothing; ``((a{99}){99}){99}`` is what would
    keep one compiling.
    """
    try:
        # Python's own reader of patterns.
        tree: Any = re._parser.parse(pattern)  # type: ignore[attr-defined]
        return _size(tree)
    except (re.error, RecursionError, OverflowError):
        return math.inf


def _size(tree: Any) -> float:
    total = 0.0
    for operation, argument in tree:
        name = str(operation)
        if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            low, high, body = argument
            times = int(low) if str(high) == "MAXREPEAT" else int(high)
            total += max(1, times) * _size(body)
        elif name == "SUBPATTERN":
            total += _size(argument[-1])
        elif name == "BRANCH":
            total += sum(_size(branch) for branch in argument[1])
        elif name in {"ASSERT", "ASSERT_NOT"}:
            total += _size(argument[1])
        else:
            total += 1
    return total


def _no(name: str, why: str) -> ApiError:
    return ApiError(400, f"{name}: {why}", param=name.partition(":")[0], code="invalid_value")
