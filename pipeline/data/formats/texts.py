"""Documents, and texts with classes."""

from __future__ import annotations

from typing import Any

from pipeline.data.formats.chats import CHATS, chat_row
from pipeline.data.formats.fields import Fields, plain, shape, text_of
from pipeline.data.rows import Row, RowProblem


def text_row(fields: Fields, prompt: str | None) -> Row:
    """``text``: a document. The recipe's prompt may put other fields around it."""
    if prompt is None:
        return {"text": fields.text("text")}
    row: Row = {"text": fields.filled(prompt)}
    own = fields.optional_text("text") or fields.own_words(prompt)
    return {**row, "source_text": own} if own is not None else row


def classification_row(fields: Fields, prompt: str | None) -> Row:
    """``text`` or ``messages``, and ``label`` or a list of ``labels``."""
    classes = _classes(fields)
    if prompt is None and fields.get("text") is None and fields.get(*CHATS) is not None:
        return {**chat_row(fields, fields.need(*CHATS), "any"), **classes}
    return {**text_row(fields, prompt), **classes}


def _classes(fields: Fields) -> Row:
    value = fields.get("label")
    if value is None:
        value = fields.get("labels")
    if value is None:
        value = fields.need("label")
    if isinstance(value, list):
        # A list that is empty says: none of the classes.
        return {"labels": sorted({label_text(label) for label in value})}
    return {"label": label_text(value)}


def label_text(value: Any) -> str:
    """A class as text.

    Outer blanks (a CSV's ``text, label``) would make a label that nobody can write.

    Raises:
        RowProblem: neither text nor a whole number nor true or false, or empty.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(plain(value, "label"))
    if isinstance(value, float):
        raise RowProblem("label is a number with a fraction")
    if not isinstance(value, str):
        raise RowProblem(f"label is {shape(value)}")
    return text_of(value, "label").strip()
