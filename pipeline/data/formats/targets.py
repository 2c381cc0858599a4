"""Signs of entities and of numbers to predict among the columns of a sample."""

from __future__ import annotations

from typing import Any

from pipeline.core.errors import DataError
from pipeline.core.features import number
from pipeline.data.formats.classes import TEXTS
from pipeline.data.formats.evidence import Evidence, is_labels, is_text
from pipeline.data.formats.shapes import Found, found

_ENTITIES = ("entities", "spans")
_TAGS = ("tags", "ner_tags")
_CLASSES = ("label", "labels", "label_text")
_SCORES = ("score", "rating", "target")
_MANY = 10


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
    """A text and a number to predict, also as a table writes it.

    ``value`` says by its name that it is one. A score may be a class, or be what a crawl thought
    of its page: it counts with many fractions, and where nothing else stands beside the text.
    """
    text = evidence.first(TEXTS, is_text)
    if text is None or any(name in evidence.values for name in _CLASSES):
        return None
    if evidence.mostly("value", _is_number):
        return found("regression", {"text": text})
    others = [name for name in evidence.names if name not in (text, "id")]
    if len(others) != 1 or others[0] not in _SCORES or not evidence.mostly(others[0], _is_number):
        return None
    numbers = {_number(value) for value in evidence.values[others[0]]} - {None}
    if sum(n is not None and not n.is_integer() for n in numbers) < _MANY:
        return None
    return found("regression", {"text": text, "value": others[0]})


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


def _number(value: Any) -> float | None:
    try:
        return number(value, "")
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return _number(value) is not None
