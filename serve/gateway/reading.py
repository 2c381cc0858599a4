"""A client's body: at most so large, in at most so long, and nothing but strict JSON."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

from pydantic_core import to_json
from starlette.types import Receive

from serve.gateway.errors import ApiError

MAX_DEPTH = 64
MAX_KEYS = 1_024
"""Of one object: each that does not belong is an error that would be written out."""


def require_json(header: Callable[[bytes], str], max_bytes: int) -> None:
    """Looks at what a head says of its body.

    Raises:
        ApiError: 413 where it is larger, 415 where it is no plain JSON.
    """
    kind = header(b"content-type").partition(";")[0].strip().lower()
    # A web page may send text/plain anywhere without asking; application/json it may not.
    if kind != "application/json":
        raise ApiError(415, "Content-Type must be application/json")
    if header(b"content-encoding").lower() not in {"", "identity"}:
        raise ApiError(415, "Content-Encoding must be identity")
    stated = header(b"content-length") or "0"
    if not stated.isdigit() or int(stated[:20]) > max_bytes:
        raise _too_large(max_bytes)


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The body; never more than ``max_bytes`` of it in memory.

    Raises:
        ApiError: 413 where it is larger, 400 where the client goes away in the middle.
    """
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(400, "The client went away while it sent its body")
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return body


async def read_slowly(receive: Receive, max_bytes: int, seconds: float) -> bytes:
    """``read_body`` of one that has not come yet.

    Raises:
        ApiError: as it; 408 where it takes longer than ``seconds``.
    """
    try:
        async with asyncio.timeout(seconds):
            return await read_body(receive, max_bytes)
    except TimeoutError:
        raise ApiError(
            408, f"The body did not come within {seconds:g} s", headers={"Connection": "close"}
        ) from None


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"The body is larger than {max_bytes} bytes")


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object (RFC 8259), each key once.

    Raises:
        ApiError: 400 with what is wrong.
    """
    try:
        body = _DECODER.decode(raw.decode("utf-8"))
    except RecursionError:
        raise ApiError(400, "The body is nested too deeply", code="invalid_json") from None
    except UnicodeDecodeError:
        raise ApiError(400, "The body is not UTF-8", code="invalid_json") from None
    except ValueError as error:
        message = f"The body is not valid JSON: {str(error)[:200]}"
        raise ApiError(400, message, code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object", code="invalid_json")
    # Its brackets bound its depth, and most bodies have few.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise ApiError(400, f"The body is nested more than {MAX_DEPTH} deep", code="invalid_json")
    return body


def to_bytes(body: dict[str, Any]) -> bytes:
    """The rebuilt request.

    Raises:
        ApiError: 400 where the text is not Unicode (a lone surrogate).
    """
    try:
        # Numbers were looked at when they were read: what is not finite would pass here.
        return to_json(body)
    except ValueError:
        raise ApiError(400, "The body holds text that is not Unicode") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _short_int(digits: str) -> int:
    # No field takes more; Python itself refuses over 4,300 digits, with a text about its settings.
    if len(digits) > 32:
        raise ValueError("a whole number of more than 32 digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:32]} is more than a number of 64 bits holds")
    return number


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise ValueError(f"an object of more than {MAX_KEYS} keys")
    # Two readers that each keep another one of the two would disagree on what was asked.
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


_DECODER = json.JSONDecoder(
    parse_constant=_no_constant,
    parse_int=_short_int,
    parse_float=_finite,
    object_pairs_hook=_no_duplicates,
)


def _depth(body: dict[str, Any]) -> int:
    level: list[Any] = [body]
    depth = 0
    while level:
        depth += 1
        inner: list[Any] = []
        for item in level:
            inner.extend(item.values() if isinstance(item, dict) else item)
        level = [item for item in inner if isinstance(item, dict | list)]
    return depth
