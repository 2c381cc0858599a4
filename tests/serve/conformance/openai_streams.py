"""What a stream said in all: an engine that is behind puts several tokens into one event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_JOINED = {"content", "text", "arguments", "reasoning", "reasoning_content"}


def joined(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The chunks of a chat or a completion as one, each choice by its index."""
    whole: dict[str, Any] = {}
    for chunk in chunks:
        _join(whole, chunk)
    return whole


def joined_events(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A response's events, those that follow one another with parts of one text as one."""
    made: list[dict[str, Any]] = []
    for event in events:
        kept = {key: value for key, value in event.items() if key != "sequence_number"}
        if made and kept["type"] == made[-1]["type"] and isinstance(kept.get("delta"), str):
            made[-1]["delta"] += kept["delta"]
        else:
            made.append(kept)
    return made


def _join(into: dict[str, Any], part: dict[str, Any]) -> None:
    for key, value in part.items():
        if value is None:
            into.setdefault(key, None)
        elif isinstance(value, dict):
            into[key] = into.get(key) or {}
            _join(into[key], value)
        elif isinstance(value, list):
            into[key] = _appended(into.get(key) or [], value)
        elif key in _JOINED and isinstance(value, str):
            into[key] = (into.get(key) or "") + value
        else:
            into[key] = value


def _appended(into: list[Any], more: list[Any]) -> list[Any]:
    """Choices and calls have an index, and are one where it is the same; the rest is a row."""
    for each in more:
        if not isinstance(each, dict) or "index" not in each:
            into.append(each)
            continue
        known = [one for one in into if one["index"] == each["index"]]
        if not known:
            known = [{}]
            into.append(known[0])
        _join(known[0], each)
    return sorted(into, key=lambda one: one["index"]) if into and _indexed(into[0]) else into


def _indexed(one: Any) -> bool:
    return isinstance(one, dict) and "index" in one
