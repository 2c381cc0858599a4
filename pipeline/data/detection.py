"""What rows nobody described look like: their format, and which column is which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.errors import DataError
from pipeline.core.schema import Format
from pipeline.data.rows import FIELDS, Row

_CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat")
_LABELS = (
    "label_text", "label", "labels", "category", "intent", "class", "target", "tag", "topic",
    "sentiment",
)  # fmt: skip
_TEXTS = (
    "text", "sentence", "utterance", "question", "query", "prompt", "input", "title", "headline",
    "review", "content", "message", "body", "document", "passage",
)  # fmt: skip
_PAIRS = (
    ("prompt", "completion"), ("prompt", "response"), ("instruction", "output"),
    ("instruction", "response"), ("query", "response"), ("input", "output"), ("source", "target"),
)  # fmt: skip
_QUESTIONS = (("question", "answer"), ("query", "answer"), ("question", "response"))
_CONTEXTS = ("context", "passage", "document")
_CHOICES = ("choices", "options", "endings")
_GROUPS = ("group", "group_id", "doc_id", "document_id", "conversation_id", "dialogue_id")
_LONGEST_LABEL = 60
_SHORTEST_TEXT = 20
_MOST_LABELS = 1000


@dataclass(frozen=True)
class Detected:
    """What rows hold.

    Attributes:
        form: the format, as a recipe names it.
        columns: our field to their column, where the two differ.
        labels: label to rows, commonest first; empty where rows have none.
        by: a column whose rows belong together, or None.
        joined: a second column (Alpaca's ``input``) that belongs behind the prompt, or None.
    """

    form: Format
    columns: Mapping[str, str]
    labels: Mapping[str, int] = field(default_factory=dict)
    by: str | None = None
    joined: str | None = None


def detect(rows: Sequence[Row], place: str) -> Detected:
    """Finds the format of ``rows``.

    Raises:
        DataError: no format fits, or several columns could be the label.
    """
    names = [n for n in rows[0] if all(n in row for row in rows)]
    by = next((n for n in _GROUPS if n in names and _repeats(rows, n)), None)
    choices = next((n for n in _CHOICES if n in names), None)
    if choices is not None:
        raise DataError(
            f"{place}: {choices}: multiple choice is no format; write question (with its "
            "choices) and answer as text"
        )
    found = _chat(rows, names, place) or _named_pair(rows, names) or _classes(rows, names, place)
    if found is not None:
        return Detected(found.form, found.columns, found.labels, by, found.joined)
    text = _text_column(rows, names)
    if text is None or _length(rows, text) < _SHORTEST_TEXT * len(rows):
        raise DataError(
            f"{place}: no column reads as text (found {', '.join(map(str, rows[0]))[:120]}); "
            f"name the columns as a format does: {_formats()}"
        )
    return Detected("text", _renamed({"text": text}), by=by)


def _formats() -> str:
    return "; ".join(f"{form} has {', '.join(fields)}" for form, fields in FIELDS.items())


def _chat(rows: Sequence[Row], names: Sequence[str], place: str) -> Detected | None:
    for name in _CHATS:
        value = rows[0].get(name)
        if name not in names or not isinstance(value, list) or not value:
            continue
        if isinstance(value[0], dict) and {"from", "value"} <= set(value[0]):
            raise DataError(
                f"{place}: {name}: turns have from and value; "
                "write them as role (user, assistant, system) and content"
            )
        return Detected("messages", _renamed({"messages": name}))
    return None


def _named_pair(rows: Sequence[Row], names: Sequence[str]) -> Detected | None:
    context = next((n for n in _CONTEXTS if n in names), None)
    for question, answer in _QUESTIONS:
        # Without a context, few short answers are classes and not answers.
        if _texts(rows, names, question, answer) and (context or not _few(rows, answer)):
            extra = {"context": context} if context else {}
            mapped = {"question": question, "answer": answer, **extra}
            return Detected("question_answer", _renamed(mapped))
    for prompt, completion in _PAIRS:
        if _texts(rows, names, prompt, completion) and not _few(rows, completion):
            joined = "input" if prompt == "instruction" and "input" in names else None
            mapped = {"prompt": prompt, "completion": completion}
            return Detected("prompt_completion", _renamed(mapped), joined=joined)
    return None


def _classes(rows: Sequence[Row], names: Sequence[str], place: str) -> Detected | None:
    known = next((n for n in _LABELS if n in names and _labels(rows, n, len(rows) / 2)), None)
    if known is None:
        few = [n for n in names if n not in _TEXTS + _GROUPS and _few(rows, n)]
        answers = [b for a, b in _PAIRS + _QUESTIONS if a in names and b in names and _few(rows, b)]
        few = answers[:1] or few
        if len(few) > 1:
            raise DataError(
                f"{place}: {', '.join(few[:6])} could each be the label; rename one to label"
            )
        known = few[0] if few else None
    if known is None:
        return None
    text = _text_column(rows, [n for n in names if n != known])
    if text is None:
        return None
    counts = Counter(str(row[known]) for row in rows)
    labels = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return Detected("classification", _renamed({"text": text, "label": known}), labels)


def _few(rows: Sequence[Row], name: str) -> bool:
    return _labels(rows, name, max(2.0, len(rows) / 10))


def _labels(rows: Sequence[Row], name: str, most: float) -> bool:
    """Whether a column holds at least two and at most ``most`` different short values."""
    values = [row[name] for row in rows]
    if not all(isinstance(v, str | int) and len(str(v)) <= _LONGEST_LABEL for v in values):
        return False
    return 2 <= len(set(map(str, values))) <= min(most, _MOST_LABELS)


def _texts(rows: Sequence[Row], names: Sequence[str], *columns: str) -> bool:
    return all(n in names and isinstance(rows[0][n], str) for n in columns)


def _text_column(rows: Sequence[Row], names: Sequence[str]) -> str | None:
    """A column that is named like a text, or the one with the longest texts."""
    texts = [n for n in names if all(isinstance(row[n], str) for row in rows)]
    for name in _TEXTS:
        if name in texts:
            return name
    others = [n for n in texts if n not in _GROUPS and n != "id"]
    return max(others, key=lambda n: _length(rows, n)) if others else None


def _length(rows: Sequence[Row], name: str) -> int:
    return sum(len(row[name]) for row in rows)


def _repeats(rows: Sequence[Row], name: str) -> bool:
    values = {str(row[name]) for row in rows}
    return 1 < len(values) < len(rows)


def _renamed(columns: Mapping[str, Any]) -> dict[str, str]:
    return {ours: str(theirs) for ours, theirs in columns.items() if ours != theirs}
