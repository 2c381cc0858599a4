"""What flows through `prepare`: rows, the places they came from, and why one was refused.

A canonical row (what ``formats`` makes of a source's own row) is a plain dict with ``id`` and

- ``text`` (a document, or what is to be classified), or
- ``messages``: [{role, content, ...}], roles system, user, assistant, tool; an assistant's may
  hold ``tool_calls`` and ``reasoning_content``, a tool's ``tool_call_id`` and ``name``, any one
  ``train`` (whether its turn is learned); beside them ``tools`` (JSON schemas), or
- ``messages`` that end with the user, ``chosen`` and ``rejected`` (one assistant message each);

and, where there is one, ``label`` (text), ``labels`` (a sorted list of texts), ``entities`` (of
``text``: {start, end, label} in characters, in their order, apart) or ``value`` (a number);
``source_text`` where the recipe's prompt has been put around the row's own text; ``meta``:
further columns that the recipe names (groups, times, features), as they stood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Row = dict[str, Any]
ROLES = ("system", "user", "assistant", "tool")
EXCERPT = 200
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class RowProblem(Exception):
    """Why one row is refused: a reason in a few words. It never leaves ``pipeline.data``."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A row as a source holds it, and where: ``train.jsonl:12``."""

    place: str
    row: Row


@dataclass(frozen=True, slots=True)
class Refused:
    """What could not be read as a row: it goes to quarantine, and is counted as read.

    Attributes:
        place: file and line, or file and row number.
        reason: in a few words.
        excerpt: the beginning of what stands there, at most EXCERPT characters.
    """

    place: str
    reason: str
    excerpt: str


class Chunk(Protocol):
    """A picklable piece of a source that is parsed where it is worked on."""

    def rows(self) -> Iterator[Placed | Refused]:
        """Its rows in order; one that cannot be read is Refused, never an exception."""


def fill(template: str, row: Mapping[str, Any]) -> str:
    """Replaces ``{field}`` by the row's value; nothing is evaluated.

    Raises:
        RowProblem: the row has no such field.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in row:
            raise RowProblem(f"prompt names {{{match[1]}}}, which the row does not have")
        return str(row[match[1]])

    return _PLACEHOLDER.sub(value, template)


def fields_of(template: str) -> list[str]:
    """The fields that ``fill`` would put in."""
    return _PLACEHOLDER.findall(template)


def row_text(row: Mapping[str, Any]) -> str:
    """The text by which a row is recognised: what the model is given, without the answer."""
    if row.get("source_text"):
        # The recipe's prompt is not the row's: it would hide a copy.
        return str(row["source_text"])
    if "messages" in row:
        return "\n".join(str(m["content"]) for m in row["messages"] if m["role"] == "user")
    return str(row.get("text", ""))


def whole_text(row: Mapping[str, Any]) -> str:
    """Everything that a row says, answers and label too: what makes two rows the same row."""
    parts = list(texts_of(row))
    label = row.get("label") or ", ".join(row.get("labels", ()))
    return "\n".join([*parts, label] if label else parts)


def labels_of(row: Mapping[str, Any]) -> list[str] | None:
    """All labels of a row, those of its entities once each; None where it is of no class."""
    if "entities" in row:
        return sorted({entity["label"] for entity in row["entities"]})
    if row.get("labels") is not None:
        return list(row["labels"])
    return None if row.get("label") is None else [str(row["label"])]


def texts_of(row: Mapping[str, Any]) -> Iterator[str]:
    """Every text of a row that cleaning may change, labels apart."""
    if "text" in row:
        yield row["text"]
    for message in _messages(row):
        yield message.get("content") or ""
        if message.get("reasoning_content"):
            yield message["reasoning_content"]


def with_texts(row: Row, change: Callable[[str], str]) -> Row:
    """The row with every text of texts_of changed; ``source_text`` too."""
    changed = dict(row)
    for name in ("text", "source_text"):
        if row.get(name):
            changed[name] = change(row[name])
    if "messages" in row:
        changed["messages"] = [_with_message(message, change) for message in row["messages"]]
    for name in ("chosen", "rejected"):
        if name in row:
            changed[name] = _with_message(row[name], change)
    return changed


def _messages(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from row.get("messages", ())
    for name in ("chosen", "rejected"):
        if name in row:
            yield row[name]


def _with_message(message: Mapping[str, Any], change: Callable[[str], str]) -> Row:
    fields = ("content", "reasoning_content")
    return {**message, **{name: change(message[name]) for name in fields if message.get(name)}}
