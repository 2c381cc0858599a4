"""Third pass of `prepare`: rows of a shelf to token ids, and an account of what did not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.features import feature_values
from pipeline.data.asked import gold
from pipeline.data.misfits import POLICIES, over_length_problem
from pipeline.data.packing import TOKENWISE, windows
from pipeline.data.rendering import Renderer
from pipeline.data.renders import RENDERS, Made, Results, Turn
from pipeline.data.rows import EXCERPT, Row, RowProblem, labels_of, row_text
from pipeline.data.selection import KEPT, TEST, VALIDATION
from pipeline.data.shelf import read_batch, row_name

CUT = "documents cut into windows"
SPLITS = {KEPT: "train", VALIDATION: "validation", TEST: "test"}


@dataclass(frozen=True)
class RenderPlan:
    """The settings that decide ids, and nothing else.

    Attributes:
        render: one of RENDERS.
        loss_on: see ``Renderer.conversations``; plays a part in ``sft`` only.
        max_length: tokens of the longest row of train and validation.
        over_length: what happens to longer ones. Those of ``text`` are always cut into
            consecutive windows, by which nothing is lost: each of them is counted (CUT), none
            is refused or listed.
        context: tokens that the base can read, or None.
        thinking_unsaid: the template asks for ``enable_thinking`` and the recipe says nothing,
            so that a training row which thinks is an error.
        tags: of entities, in the order of their numbers (``tag`` only).
        features: specifications of hand-made features.
        grouped: columns of ``meta`` that tell which rows belong together.
    """

    render: str
    loss_on: str
    max_length: int
    over_length: str
    context: int | None
    thinking_unsaid: bool = False
    tags: Sequence[str] = ()
    features: Sequence[Mapping[str, Any]] = ()
    grouped: Sequence[str] = ()

    def __post_init__(self) -> None:
        problem = over_length_problem(self.render, self.over_length)
        if problem is not None:
            raise DataError(f"train.over_length: {problem}")


@dataclass
class Example:
    """What one row came to.

    Attributes:
        index: of the row on its shelf.
        rows: its examples, with the columns of `arrow`.
        lost: reason of REASONS where nothing of it is kept.
        entry: what is written down of it where it was cut or lost.
        note: what is counted of it, though nothing was lost: CUT, or what its render says.
    """

    index: int
    split: str
    rows: list[Row] = field(default_factory=list)
    lost: str | None = None
    entry: dict[str, Any] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Batch:
    """A batch of a shelf and what was decided of its rows; small enough to send anywhere.

    ``relabelled``: a row's index on the shelf to the label that it reads instead of its own.
    """

    shelf: Path
    number: int
    start: int
    code: Any
    ordinal: Any
    source: Any
    again: Any
    relabelled: Mapping[int, str] = field(default_factory=dict)


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
                if batch.start + inner in batch.relabelled:
                    row["label"] = batch.relabelled[batch.start + inner]
                split = self.split or SPLITS[code]
                by_split.setdefault(split, []).append((batch.start + inner, row))
        for split, members in by_split.items():
            made += self._rendered(split, members)
        return sorted(made, key=lambda example: example.index)

    def _rendered(self, split: str, members: Sequence[tuple[int, Row]]) -> list[Example]:
        found = self._ids(split, [row for _, row in members])
        made = []
        for (index, row), made_of in zip(members, found, strict=True):
            example = Example(index, split)
            if isinstance(made_of, RowProblem):
                example.lost = "quarantined"
                example.entry = _entry(row, str(made_of), row_text(row)[:EXCERPT])
            else:
                self._fit(example, row, made_of)
            made.append(example)
        return made

    def _ids(self, split: str, rows: Sequence[Row]) -> Results:
        plan, renderer = self.plan, self.renderer
        if renderer is None:
            raise RuntimeError("RenderStep.use was not called in this process or its parent")
        turn = Turn(split, plan.loss_on, plan.thinking_unsaid, plan.tags)
        return RENDERS[plan.render](renderer, rows, turn)

    def _fit(self, example: Example, row: Row, made: Sequence[Made]) -> None:
        """Examples that fit the length; a test row is never cut."""
        plan, several = self.plan, len(made) > 1
        features = None
        if plan.features:
            features = feature_values(plan.features, row_text(row), row.get("meta", {}))
        for number, one in enumerate(made):
            name = f"{row['id']}.{number}" if several else str(row["id"])
            whole = {
                "example_id": name,
                "text": _kept_text(row, example.split),
                "label": gold(row) if plan.render != "text" else None,
                "input_ids": one.ids,
                "supervised": one.supervised,
                "prompt": one.prompt,
                "features": features,
                "group": self._group(example.split, row),
                **one.more,
            }
            example.note = one.note
            length = max(len(one.ids), len(one.more.get("rejected_ids", ())))
            if example.split == "test":
                self._require_context(row, length)
                example.rows.append(whole)
            elif length <= plan.max_length:
                example.rows.append(whole)
            elif plan.render == "text":
                example.rows += windows(whole, plan.max_length)
                example.note = CUT
            else:
                self._too_long(example, row, whole, length)
        if not example.rows:
            example.lost = "over-length"

    def _group(self, split: str, row: Row) -> str | None:
        """What a row shares with others: its document or phrase; None: it stands alone.

        Training rows of classes have it too: some of them are asked beside the test.
        """
        meta = row.get("meta", {}) if split != "train" or _of_classes(row) else {}
        found = next((meta[name] for name in self.plan.grouped if name in meta), None)
        return None if found is None else str(found)

    def _require_context(self, row: Row, length: int) -> None:
        context = self.plan.context
        if self.plan.render != "text" and context is not None and length > context:
            raise DataError(
                f"data.test: row {row['id']} has {length} tokens, and the base's context is "
                f"{context}; shorten the row or choose a base with a longer context"
            )

    def _too_long(self, example: Example, row: Row, whole: Row, length: int) -> None:
        plan = self.plan
        if plan.over_length == "error":
            others = [p for p in POLICIES if over_length_problem(plan.render, p) is None]
            raise DataError(
                f"data.{example.split}: row {row['id']} has {length} tokens, train.max_length is "
                f"{plan.max_length}; raise it, or set train.over_length: "
                f"{' or '.join([', '.join(others[:-1]), *others[-1:]] if others[1:] else others)}"
            )
        entry = _entry(row, f"over-length: {plan.over_length}", row_text(row)[:EXCERPT])
        example.entry = {**entry, "tokens": length}
        if plan.over_length == "drop":
            return
        if plan.render != "hybrid":
            # Of a part nobody can say where its question ends.
            whole = {**whole, "prompt": None}
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
    return {**whole, **{name: whole[name][keep] for name in TOKENWISE if whole.get(name)}}


def _kept_text(row: Row, split: str) -> str:
    """A row's text where something reads it again: what is judged, and rows of classes, from
    which rungs without a model learn."""
    if split == "test" or _of_classes(row):
        return str(row.get("text") or row_text(row))
    return ""


def _of_classes(row: Row) -> bool:
    return labels_of(row) is not None and "entities" not in row


def _entry(row: Row, reason: str, text: str) -> dict[str, Any]:
    return {"id": str(row["id"]), "reason": reason, "text": text}
