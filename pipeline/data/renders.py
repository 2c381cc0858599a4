"""How rows become ids for each way of rendering that `core.objectives` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.core.errors import DataError
from pipeline.data.asked import (
    answered,
    as_judged,
    gold,
    require,
    require_no_thought,
    require_unanswered,
    written_for_label,
)
from pipeline.data.formats.instructions import is_checks
from pipeline.data.rendering import Rendered, Renderer
from pipeline.data.rendering.pieces import pieces, tags_of
from pipeline.data.rows import Row, RowProblem

WIDER = "rows with an entity that begins or ends inside a token"


@dataclass(frozen=True, slots=True)
class Made:
    """One example of a row.

    Attributes:
        more: further columns of `arrow` that this render fills.
        note: what is counted of it, though nothing was lost.
    """

    ids: list[int]
    supervised: list[int]
    prompt: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True)
class Turn:
    """What a render has to know besides the rows.

    Attributes:
        split: train, validation or test.
        loss_on: see ``Renderer.conversations``; plays a part in ``sft`` only.
        thinking_unsaid: a training row that thinks is an error.
        tags: the tags of entities, in the order of their numbers.
    """

    split: str
    loss_on: str = "assistant"
    thinking_unsaid: bool = False
    tags: Sequence[str] = ()


Results = list[list[Made] | RowProblem]
Render = Callable[[Renderer, Sequence[Row], Turn], Results]


def _text(renderer: Renderer, rows: Sequence[Row], turn: Turn) -> Results:
    if all("messages" not in row for row in rows):
        found = renderer.texts([row["text"] for row in rows])
        return [_made([r]) if isinstance(r, Rendered) else r for r in found]
    whole = [answered(renderer, row) for row in rows]
    _require_thoughts_said(rows, whole, turn)
    return [_made(r) for r in renderer.conversations(whole, "all")]


def _sft(renderer: Renderer, rows: Sequence[Row], turn: Turn) -> Results:
    return _conversations(renderer, rows, [answered(renderer, row) for row in rows], turn)


def _channel(renderer: Renderer, rows: Sequence[Row], turn: Turn) -> Results:
    whole = [written_for_label(renderer, row) for row in rows]
    found = renderer.conversations(whole, "last")
    return [_made(one, asked=True) for one in found]


def _preference(renderer: Renderer, rows: Sequence[Row], turn: Turn) -> Results:
    """Prompt and chosen, prompt and rejected; a test row with one answer is asked as it is."""
    if turn.split == "test" and all("rejected" not in row for row in rows):
        return _sft(renderer, rows, turn)
    both: list[list[list[Rendered] | RowProblem]] = []
    for answer in ("chosen", "rejected"):
        for row in rows:
            require(row, answer, "dpo", "preference: a prompt, chosen and rejected")
        whole = [answered(renderer, row, answer) for row in rows]
        both.append(_judged(renderer, rows, whole, replace(turn, loss_on="last")))
    return [_pair(one, other) for one, other in zip(*both, strict=True)]


def _pair(
    chosen: list[Rendered] | RowProblem, rejected: list[Rendered] | RowProblem
) -> list[Made] | RowProblem:
    if isinstance(chosen, RowProblem):
        return RowProblem(f"chosen: {chosen}")
    if isinstance(rejected, RowProblem):
        return RowProblem(f"rejected: {rejected}")
    (one,), (other,) = chosen, rejected
    shared = one.prompt or 0
    if shared != other.prompt or one.input_ids[:shared] != other.input_ids[:shared]:
        return RowProblem("chosen and rejected do not stand after the same prompt's ids")
    if one.input_ids == other.input_ids:
        return RowProblem("chosen and rejected have the same ids")
    more = {"rejected_ids": other.input_ids, "rejected_supervised": other.supervised}
    return [Made(one.input_ids, one.supervised, shared, more)]


def _hybrid(renderer: Renderer, rows: Sequence[Row], turn: Turn) -> Results:
    """The label is written, and read off the question: its ids must open the row's."""
    for row in rows:
        require(row, "label", "hybrid", "classification with one label")
        require_unanswered(row)
    whole = [answered(renderer, row) for row in rows]
    found = _judged(renderer, rows, whole, replace(turn, loss_on="last"))
    return [
        _proved(one, renderer.question(row), row) if not isinstance(one, RowProblem) else one
        for one, row in zip(found, rows, strict=True)
    ]


def _proved(rendered: list[Rendered], question: list[int], row: Row) -> list[Made]:
    (one,) = rendered
    if one.input_ids[: len(question)] != question or any(one.supervised[: len(question)]):
        raise DataError(
            f"data: row {row['id']}: the ids of its question do not open those of question and "
            "label, so head and label-writer would read different texts; set "
            "data.chat_template_kwargs or data.chat_template"
        )
    return [Made(one.input_ids, one.supervised, len(question))]


def _classify(renderer: Renderer, rows: Sequence[Row], turn: Turn) -> Results:
    for row in rows:
        if "labels" not in row:
            form = "classification: a question with one label, or several"
            require(row, "label", "classify", form)
        # It would show a head what it should tell.
        require_unanswered(row)
    return [
        _question(renderer, row, {"labels": row["labels"]} if "labels" in row else {})
        for row in rows
    ]


def _regress(renderer: Renderer, rows: Sequence[Row], turn: Turn) -> Results:
    form = "regression: a text with a number"
    values = [require(row, "value", "regress", form) for row in rows]
    return [
        _question(renderer, row, {"value": value}) for row, value in zip(rows, values, strict=True)
    ]


def _tag(renderer: Renderer, rows: Sequence[Row], turn: Turn) -> Results:
    """Plain text with the tokenizer's special tokens and no chat template, whatever the base."""
    given = [require(row, "entities", "tag", "tagging: a text with entities") for row in rows]
    texts = [str(row["text"]) for row in rows]
    number = {tag: index for index, tag in enumerate(turn.tags)}
    found: Results = []
    for cut, text, entities in zip(pieces(renderer, texts), texts, given, strict=True):
        try:
            tags, wider = tags_of(cut, text, entities, number)
        except RowProblem as problem:
            found.append(problem)
        else:
            note = WIDER if wider else None
            found.append([Made(cut.ids, [], more={"tags": tags}, note=note)])
    return found


RENDERS: Mapping[str, Render] = {
    "text": _text,
    "sft": _sft,
    "preference": _preference,
    "channel": _channel,
    "hybrid": _hybrid,
    "classify": _classify,
    "tag": _tag,
    "regress": _regress,
}


def _conversations(
    renderer: Renderer, rows: Sequence[Row], whole: Sequence[Row], turn: Turn
) -> Results:
    found = _judged(renderer, rows, whole, turn)
    return [
        _without_checks(row, _made(one, asked=True)) for row, one in zip(rows, found, strict=True)
    ]


def _judged(
    renderer: Renderer, rows: Sequence[Row], whole: Sequence[Row], turn: Turn
) -> list[list[Rendered] | RowProblem]:
    _require_thoughts_said(rows, whole, turn)
    if turn.split == "test":
        # A test row is asked once: everything before its last turn is the question,
        # whichever turns would be learned.
        whole = [as_judged(row, renderer.thinking) for row in whole]
        return renderer.conversations(whole, "last")
    return renderer.conversations(whole, turn.loss_on)


def _require_thoughts_said(rows: Sequence[Row], whole: Sequence[Row], turn: Turn) -> None:
    if turn.split == "train" and turn.thinking_unsaid:
        require_no_thought(rows, whole)


def _question(renderer: Renderer, row: Row, more: Mapping[str, Any]) -> list[Made] | RowProblem:
    try:
        return [Made(renderer.question(row), [], more=more)]
    except RowProblem as problem:
        return problem


def _without_checks(row: Row, made: list[Made] | RowProblem) -> list[Made] | RowProblem:
    """What an answer is checked by is no text: no model reads it, and no context must hold it."""
    if isinstance(made, RowProblem) or not is_checks(gold(row)):
        return made
    return [Made(m.ids[: m.prompt], m.supervised[: m.prompt], m.prompt) for m in made]


def _made(found: list[Rendered] | RowProblem, asked: bool = False) -> list[Made] | RowProblem:
    if isinstance(found, RowProblem):
        return found
    return [Made(one.input_ids, one.supervised, one.prompt if asked else None) for one in found]
