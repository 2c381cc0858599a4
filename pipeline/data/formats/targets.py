"""Signs of entities and of numbers to predict among the columns of a sample."""

from __future__ import annotations

import math
from typing import Any

from pipeline.core.errors import DataError
from pipeline.data.formats.evidence import Evidence, is_labels, is_text
from pipeline.data.formats.shapes import Found, found

_ENTITIES = ("entities", "spans")
_TAGS = ("tags", "ner_tags")
_CLASSES = ("label", "labels", "label_text")


def find_tagging(evidence: Evidence, place: str) -> Found | None:
    """Texts with entities, or tokens with their tags.

    Raises:
        DataError: tags that are numbers: the rows do not say what they stand for.
    """
    text = evidence.first(("text", "sentence"), is_text)
    spans = next((name for name in _ENTITIES if _holds_spans(evidence, name)), None)
    if text is not None and spans is not None:
        return found("tagging", {"text": text, "entities": spans})
    if not evidence.mostly("tokens", _is_words):
        return None
    tags = evidence.first(_TAGS, _is_words)
    if tags is not None:
        return found("tagging", {"tags": tags})
    numbered = evidence.first(_TAGS, is_labels)
    if numbered is not None:
        raise DataError(
            f"{place}: {numbered} are numbers, and the rows do not say what they stand for; "
            "write names: B-PER, I-PER, O"
        )
    return None


def find_regression(evidence: Evidence) -> Found | None:
    """A text and a ``value`` with fractions: whole numbers alone might be classes."""
    text = evidence.first(("text", "sentence"), is_text)
    values = evidence.values.get("value", ())
    if text is None or any(name in evidence.values for name in _CLASSES):
        return None
    if not evidence.mostly("value", _is_number) or not any(
        isinstance(value, float) and value != round(value) for value in values if _is_number(value)
    ):
        return None
    return found("regression", {"text": text})


def _holds_spans(evidence: Evidence, name: str) -> bool:
    """Whether a column's values are lists of spans; not all of them may be empty."""
    return evidence.mostly(name, _is_spans) and any(
        value for value in evidence.values[name] if _is_spans(value)
    )


def _is_spans(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and {"start", "end", "label"} <= one.keys() for one in value
    )


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        # Of a whole number beyond a float's range math.isfinite raises OverflowError.
        and (isinstance(value, int) or math.isfinite(value))
    )
