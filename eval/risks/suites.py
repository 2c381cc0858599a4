"""The task suites of a risk page: their rows as they were prepared, and again with other words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.clusters import clusters_of
from eval.drawing import chosen
from eval.loaded import question_ids
from pipeline.core.artifact import Artifact
from pipeline.data.arrow import Split
from pipeline.data.rendering import Renderer
from pipeline.data.rows import RowProblem

# Renders whose rows are asked one question and answered with one label.
_ASKED = ("sft", "classify", "hybrid")
_CHANNEL = "channel"


@dataclass(frozen=True)
class Suite:
    """Some of the test rows of a Dataset.

    Attributes:
        rows: those that are asked, as prepared.
        labels: the answers there are; none for open ones.
        lengths: tokens of each row's question; of a channel's of the text that it weighs.
        refusal: why its questions cannot be asked again in other words, or None.
    """

    name: str
    rows: tuple[dict[str, Any], ...]
    labels: tuple[str, ...]
    folder: Path
    renderer: Renderer
    lengths: tuple[int, ...]
    refusal: str | None = None

    @property
    def clusters(self) -> list[str] | None:
        """What each item shares with others; None where every item stands by itself."""
        return clusters_of(self.rows)

    @property
    def texts(self) -> list[str]:
        """The questions' own words."""
        return [str(row["text"]) for row in self.rows]

    def reworded(self, texts: Sequence[str]) -> Suite:
        """The same items, asked in other words.

        Raises:
            RowProblem: a text that cannot be asked.
        """
        rows = [
            reworded(row, self.renderer.question(text))
            for row, text in zip(self.rows, texts, strict=True)
        ]
        return replace(
            self,
            rows=tuple({**row, "text": t} for row, t in zip(rows, texts, strict=True)),
            lengths=tuple(len(question_ids(row)) for row in rows),
        )

    def fits(self, text: str, most: int | None) -> bool:
        """Whether a question in these words is at most so many tokens long; None: any is."""
        return most is None or len(self.renderer.question(text)) <= most

    def only(self, indices: Sequence[int]) -> Suite:
        """Some of its items, in that order."""
        return replace(
            self,
            rows=tuple(self.rows[index] for index in indices),
            lengths=tuple(self.lengths[index] for index in indices),
        )


def reworded(row: dict[str, Any], ids: list[int]) -> dict[str, Any]:
    """A row that asks something else and has the same answer."""
    old = row.get("prompt")
    if old is None:
        return {**row, "input_ids": ids, "supervised": []}
    # Forms that weigh or are told labels look at the answer's own ids.
    learned = [0] * len(ids) + list((row["supervised"] or [])[old:])
    whole = [*ids, *row["input_ids"][old:]]
    return {**row, "input_ids": whole, "prompt": len(ids), "supervised": learned}


def labelled_suite(
    name: str, artifact: Artifact, make: Callable[[Path], Renderer], limit: int, seed: int
) -> Suite | None:
    """The suite, or None where its rows are not asked for one label each.

    Args:
        make: the renderer of a Dataset's folder.
        limit: rows that are asked, drawn by ``seed``.
    """
    render = _json(artifact.path / "render.json")
    labels = tuple(_json(artifact.path / "labels.json"))
    if render["render"] not in (*_ASKED, _CHANNEL) or render.get("multi_label") or not labels:
        return None
    split = Split(artifact.path / "test.arrow")
    rows = tuple(dict(split[index]) for index in chosen(len(split), limit, seed))
    if not rows:
        return None
    channel = render["render"] == _CHANNEL
    lengths = tuple(
        len(row["input_ids"]) - row["prompt"] if channel else len(question_ids(row)) for row in rows
    )
    suite = Suite(name, rows, labels, artifact.path, make(artifact.path), lengths)
    if channel:
        why = "a channel weighs the text after each label, and its rows are no questions"
        return replace(suite, refusal=why)
    return replace(suite, refusal=_refusal(suite))


def _refusal(suite: Suite) -> str | None:
    """A question in other words must be rendered as its own words were, or nothing is compared."""
    if any(row.get("features") is not None for row in suite.rows):
        return "the head reads hand-made features too, which other words would change"
    for row in suite.rows:
        try:
            again = suite.renderer.question(str(row["text"]))
        except RowProblem as problem:
            return f"row {row['example_id']} cannot be asked again ({problem})"
        if again != question_ids(row):
            return (
                f"row {row['example_id']} is no single question: rendered again from its text, "
                "its ids are others"
            )
    return None


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
