"""Signs of classes and of plain text among the columns of a sample."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.core.errors import DataError
from pipeline.data.formats.conversion import FIELDS
from pipeline.data.formats.evidence import Evidence, is_labels, is_text, is_wordy
from pipeline.data.formats.shapes import Found, found

# Nothing but a class bears these names; the next ones may be something else.
_LABELS = ("label_text", "label", "labels", "intent", "class")
_MAYBE = ("category", "target", "tag", "topic", "sentiment")
_ANSWERS = ("completion", "response", "output", "answer", "target")
TEXTS = (
    "text", "sentence", "utterance", "question", "query", "prompt", "input", "title", "headline",
    "review", "content", "message", "body", "document", "passage",
)  # fmt: skip
_PROMPTS = {"question", "query", "prompt", "instruction", "turns"}
_SHORTEST_TEXT = 20


def find_classes(evidence: Evidence, place: str, groups: Sequence[str]) -> Found | None:
    """A text and its class or classes.

    Raises:
        DataError: several columns could be the class, or the text.
    """
    label = _label_column(evidence, place, groups)
    if label is None:
        return None
    text = _text_column(evidence, place, [*groups, label])
    if text is None:
        return None
    ours = "labels" if evidence.mostly(label, is_labels) else "label"
    return found("classification", {"text": text, ours: label}, *_unread(evidence, text))


def find_text(evidence: Evidence, place: str, groups: Sequence[str]) -> Found:
    """Documents: a column that is named like a text, or the one that holds the longest.

    Raises:
        DataError: questions without answers, no text at all, or several.
    """
    text = _text_column(evidence, place, groups)
    short = text != "text" and (text is None or evidence.length(text) < _SHORTEST_TEXT)
    listed = ", ".join(evidence.names)[:120] or "nothing"
    asked = next((name for name in evidence.names if name in _PROMPTS), None)
    if asked is not None and (short or text in _PROMPTS):
        raise DataError(
            f"{place}: {asked} without answers (found {listed}): there is nothing to learn; "
            "add the answers, or name what is plain text: format: text, columns: {text: THEIR_NAME}"
        )
    if text is None or short:
        raise DataError(
            f"{place}: no column reads as text (found {listed}); "
            f"name the columns as a format does: {_formats()}"
        )
    return found("text", {"text": text}, *_unread(evidence, text))


def _label_column(evidence: Evidence, place: str, groups: Sequence[str]) -> str | None:
    for name in _LABELS:
        # The head of a sorted file shows one class only.
        if evidence.mostly(name, is_labels) or evidence.labels(name, evidence.count(name) - 1, 1):
            return name
    known = [name for name in _MAYBE if evidence.labels(name, evidence.count(name) / 2)]
    answers = [name for name in _ANSWERS if evidence.few(name)]
    others = [n for n in evidence.names if n not in (*TEXTS, *groups) and evidence.few(n)]
    for candidates in (known, answers, others):
        differ = [name for name in candidates if not evidence.same(candidates[0], name)]
        if differ:
            raise DataError(
                f"{place}: {', '.join([candidates[0], *differ][:6])} could each be the label; "
                "rename one to label, or name it: columns: {label: THEIR_NAME}"
            )
        if candidates:
            return candidates[0]
    return None


def _text_column(evidence: Evidence, place: str, but: Sequence[str]) -> str | None:
    named = [name for name in TEXTS if name not in but and evidence.mostly(name, is_text)]
    if named:
        return named[0]
    wordy = [
        name
        for name in evidence.names
        if name not in (*but, "id") and evidence.mostly(name, is_wordy)
    ]
    long = [name for name in wordy if evidence.length(name) >= _SHORTEST_TEXT]
    if len(long) > 1:
        raise DataError(
            f"{place}: {', '.join(long[:6])} could each be the text; "
            "name it: columns: {text: THEIR_NAME}"
        )
    return max(wordy, key=evidence.length) if wordy else None


def _unread(evidence: Evidence, text: str) -> tuple[str, ...]:
    """Columns that one might have expected to be read."""
    others = [
        name
        for name in TEXTS
        if name != text
        and evidence.mostly(name, is_wordy)
        and evidence.length(name) >= _SHORTEST_TEXT
    ]
    if not others or text == "text":
        return ()
    return (
        f"the text is {text}; {', '.join(others)} plays no part: a prompt can put them together",
    )


def _formats() -> str:
    return "; ".join(f"{form} has {', '.join(fields)}" for form, fields in FIELDS.items())
