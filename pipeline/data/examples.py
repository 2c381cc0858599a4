"""Third pass of `prepare`: rows of a shelf to token ids, and an account of what did not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.data.gathering import label_of
from pipeline.data.packing import windows
from pipeline.data.rendering import Rendered, Renderer, thinks, without_thought
from pipeline.data.rows import EXCERPT, Row, RowProblem, row_text
from pipeline.data.selection import KEPT, TEST, VALIDATION
from pipeline.data.shelf import read_batch, row_name

CUT = "documents cut into windows"
SPLITS = {KEPT: "train", VALIDATION: "validation", TEST: "test"}


@dataclass(frozen=True)
class RenderPlan:
    """The settings that decide ids, and nothing else.

    Attributes:
        render: ``text``, ``sft`` or ``classify``.
        loss_on: see ``Renderer.conversations``; plays a part in ``sft`` only.
        max_length: tokens of the longest row of train and validation.
        over_length: what happens to longer ones of ``sft`` and ``classify``. Those of ``text``
            are always cut into consecutive windows, by which nothing is lost: each of them is
            counted (CUT), none is refused or listed.
        context: tokens that the base can read, or None.
        thinking_unsaid: the template asks for ``enable_thinking`` and the recipe says nothing,
            so that a training row which thinks is an error.
    """

    render: str
    loss_on: str
    max_length: int
    over_length: str
    context: int | None
    thinking_unsaid: bool = False


@dataclass
class Example:
    """What one row came to.

    Attributes:
        index: of the row on its shelf.
        rows: its examples, with the columns of `arrow`.
        lost: reason of REASONS where nothing of it is kept.
        entry: what is written down of it where it was cut or lost.
        note: what is counted of it, though nothing was lost: CUT.
    """

    index: int
    split: str
    rows: list[Row] = field(default_factory=list)
    lost: str | None = None
    entry: dict[str, Any] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Batch:
    """A batch of a shelf and what was decided of its rows; small enough to send anywhere."""

    shelf: Path
    number: int
    start: int
    code: Any
    ordinal: Any
    source: Any
    again: Any


class RenderStep:
    """Batch -> Examples, pure.

    The renderer is the one that this process (or the one it was forked from) was given by
    ``use``: a tokenizer is large, and is not sent with every batch.
    """

    renderer: Renderer | None = None

    def __init__(self, plan: RenderPlan, split: str | None = None) -> None:
        """``split`` names the split of every kept row; None: as the batch's codes say."""
        self.plan, self.split = plan, split

    @classmethod
    def use(cls, renderer: Renderer) -> None:
        """Gives this process, and those forked from it, the renderer."""
        cls.renderer = renderer

    def __call__(self, batch: Batch) -> list[Example]:
        """Renders every row of the batch that is kept for some split."""
        rows = read_batch(batch.shelf, batch.number)
        made: list[Example] = []
        by_split: dict[str, list[tuple[int, Row]]] = {}
        for inner, row in enumerate(rows):
            code = int(batch.code[inner])
            if code in SPLITS:
                row["id"] = row_name(
                    str(row.get("id", "")),
                    int(batch.source[inner]),
                    int(batch.ordinal[inner]),
                    bool(batch.again[inner]),
                )
                split = self.split or SPLITS[code]
                by_split.setdefault(split, []).append((batch.start + inner, row))
        for split, members in by_split.items():
            made += self._rendered(split, members)
        return sorted(made, key=lambda example: example.index)

    def _rendered(self, split: str, members: Sequence[tuple[int, Row]]) -> list[Example]:
        found = self._ids(split, [row for _, row in members])
        made = []
        for (index, row), rendered in zip(members, found, strict=True):
            example = Example(index, split)
            if isinstance(rendered, RowProblem):
                example.lost = "quarantined"
                example.entry = _entry(row, str(rendered), row_text(row)[:EXCERPT])
            else:
                self._fit(example, row, rendered)
            made.append(example)
        return made

    def _ids(self, split: str, rows: Sequence[Row]) -> list[list[Rendered] | RowProblem]:
        plan, renderer = self.plan, self.renderer
        if renderer is None:
            raise RuntimeError("RenderStep.use was not called in this process or its parent")
        if plan.render == "text" and all("messages" not in row for row in rows):
            return [[r] if isinstance(r, Rendered) else r
                    for r in renderer.texts([row["text"] for row in rows])]  # fmt: skip
        if plan.render == "classify":
            return [_question(renderer, row) for row in rows]
        loss_on = "all" if plan.render == "text" else plan.loss_on
        whole = [_conversation(renderer, row) for row in rows]
        if split == "train" and plan.thinking_unsaid:
            _require_no_thought(rows, whole)
        if split == "test" and plan.render == "sft":
            # A test row is asked once: everything before its last turn is the question,
            # whichever turns would be learned.
            loss_on, whole = "last", [_asked(row, renderer.thinking) for row in whole]
        return renderer.conversations(whole, loss_on)

    def _fit(self, example: Example, row: Row, rendered: Sequence[Rendered]) -> None:
        """Examples that fit the length; a test row is never cut."""
        plan, several = self.plan, len(rendered) > 1
        for number, one in enumerate(rendered):
            name = f"{row['id']}.{number}" if several else str(row["id"])
            whole = {
                "example_id": name,
                "text": str(row.get("text") or row_text(row)) if example.split == "test" else "",
                "label": gold(row) if plan.render != "text" else None,
                "input_ids": one.input_ids,
                "supervised": one.supervised,
                "prompt": one.prompt if example.split == "test" else None,
            }
            length = len(one.input_ids)
            if example.split == "test":
                self._require_context(row, length)
                example.rows.append(whole)
            elif length <= plan.max_length:
                example.rows.append(whole)
            elif plan.render == "text":
                example.rows += windows(whole, plan.max_length)
                example.note = CUT
            else:
                self._too_long(example, row, whole)
        if not example.rows:
            example.lost = "over-length"

    def _require_context(self, row: Row, length: int) -> None:
        context = self.plan.context
        if self.plan.render != "text" and context is not None and length > context:
            raise DataError(
                f"data.test: row {row['id']} has {length} tokens, and the base's context is "
                f"{context}; shorten the row or choose a base with a longer context"
            )

    def _too_long(self, example: Example, row: Row, whole: Row) -> None:
        length, plan = len(whole["input_ids"]), self.plan
        if plan.over_length == "error":
            raise DataError(
                f"data.{example.split}: row {row['id']} has {length} tokens, train.max_length is "
                f"{plan.max_length}; raise it, or set train.over_length: drop, truncate-left, "
                "truncate-right or split"
            )
        entry = _entry(row, f"over-length: {plan.over_length}", row_text(row)[:EXCERPT])
        example.entry = {**entry, "tokens": length}
        if plan.over_length == "drop":
            return
        parts = windows(whole, plan.max_length) if plan.over_length == "split" else [
            _cut(whole, plan.max_length, plan.over_length)
        ]  # fmt: skip
        # The first token of a row has nothing before it that could predict it.
        kept = [p for p in parts if not len(whole["supervised"]) or np.any(p["supervised"][1:])]
        if len(kept) < len(parts):
            # What is left has nothing to learn from: dropped, and said.
            example.entry["parts without loss"] = len(parts) - len(kept)
        example.rows += kept


def _cut(whole: Row, longest: int, policy: str) -> Row:
    keep = slice(-longest, None) if policy == "truncate-left" else slice(longest)
    return {**whole, **{name: whole[name][keep] for name in ("input_ids", "supervised")}}


def _question(renderer: Renderer, row: Row) -> list[Rendered] | RowProblem:
    if "label" not in row:
        raise DataError(
            f"data: row {row['id']}: objective classify needs format classification: "
            "a question with one label"
        )
    # It would show a head what it should tell.
    _require_unanswered(row)
    try:
        return [Rendered(renderer.question(row), [])]
    except RowProblem as problem:
        return problem


def _conversation(renderer: Renderer, row: Row) -> Row:
    """The row as a whole conversation that ends with the assistant."""
    if "chosen" in row:
        return {**row, "messages": [*renderer.with_system(row["messages"]), row["chosen"]]}
    answer = label_of(row)
    if "messages" in row:
        messages = renderer.with_system(row["messages"])
        if answer is not None:
            # The label would stand nowhere: another answer has its place.
            _require_unanswered(row)
            messages = [*messages, {"role": "assistant", "content": answer}]
        return {**row, "messages": messages}
    if answer is None:
        raise DataError(
            f"data: row {row['id']}: format text has no answer; objective sft needs one"
        )
    return {"messages": renderer.messages(str(row["text"]), answer)}


def _require_unanswered(row: Row) -> None:
    messages = row.get("messages")
    if messages and messages[-1]["role"] == "assistant":
        raise DataError(
            f"data: row {row['id']}: format classification needs a question with one label, and "
            "this conversation ends with the assistant's answer; take that turn out, or read the "
            "rows as format messages"
        )


def _require_no_thought(rows: Sequence[Row], whole: Sequence[Row]) -> None:
    for row, conversation in zip(rows, whole, strict=True):
        turns = (m for m in conversation["messages"] if m["role"] == "assistant")
        if any(thinks(turn) for turn in turns):
            raise DataError(
                f"data.train: row {row['id']} holds thinking, and the chat template asks whether "
                "to think; set data.chat_template_kwargs: {enable_thinking: true}, so that "
                "training, every suite and serving do the same"
            )


def _asked(row: Row, thinking: bool | None) -> Row:
    """A conversation to be judged: what is learned, and an unasked thought, play no part."""
    turns = [{k: v for k, v in m.items() if k != "train"} for m in row["messages"]]
    if thinking is False:
        turns[-1] = without_thought(turns[-1])
    return {**row, "messages": turns}


def gold(row: Row) -> str | None:
    """What is to be answered: the label, or the last turn."""
    answer = label_of(row)
    if answer is not None:
        return answer
    if "chosen" in row:
        return str(row["chosen"].get("content") or "")
    return str(row["messages"][-1].get("content") or "") if "messages" in row else None


def _entry(row: Row, reason: str, text: str) -> dict[str, Any]:
    return {"id": str(row["id"]), "reason": reason, "text": text}
