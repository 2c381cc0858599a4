"""Entities as the tests write them."""

from __future__ import annotations

from typing import Any

TAGS = ["O", "B-LOC", "B-PER", "I-LOC", "I-PER"]
"""Of the labels that the tests use, in their numbers' order."""


def entity(start: int, end: int, label: str = "PER") -> dict[str, Any]:
    return {"start": start, "end": end, "label": label}
