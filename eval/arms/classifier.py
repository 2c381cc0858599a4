"""A predictor whose model answers by a head: one label, several, a tag for each token, a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.batching import OnProgress, Row, ask_in_batches, check_length
from eval.record import Kind, Prediction, as_text
from pipeline.core.errors import DataError
from pipeline.data.arrow import IGNORED

if TYPE_CHECKING:
    from pipeline.modeling.heads import Kind as HeadKind

KINDS: Mapping[HeadKind, Kind] = {
    "single": "label",
    "multi": "labels",
    "tag": "tags",
    "regress": "value",
}
"""What a head of a kind is asked for; a row's column of that name holds the right answer."""


class HeadPredictor:
    """Asks a head in batches of rows of like length.

    Tags are those of the judged tokens alone: a tokenizer's own special ones have none.
    """

    def __init__(
        self,
        answer_fn: Callable[[Sequence[Row]], Sequence[Any]],
        kind: HeadKind,
        *,
        batch_size: int,
        tag_names: Sequence[str] = (),
        context: int | None = None,
    ) -> None:
        """Takes a way of answering rows.

        Args:
            answer_fn: one batch to answers, as ``pipeline.modeling.predictions.predict``.
            kind: of the head.
            batch_size: rows at a time.
            tag_names: of the suite, in whose numbers its rows are tagged.
            context: tokens that the model reads at most; None: it has no end.
        """
        self.answer_fn, self.kind = answer_fn, kind
        self.batch_size, self.tag_names = batch_size, tuple(tag_names)
        self.context = context

    def predict(
        self,
        rows: Sequence[Row],
        *,
        on_progress: OnProgress | None = None,
        on_done: Callable[[list[Prediction]], None] | None = None,
    ) -> list[Prediction]:
        """Answers rows of ``example_id``, ``input_ids`` and label, labels, tags or value.

        Raises:
            DataError: a row has no tokens or more than the context holds, or not what it should
                be judged by.
        """
        for row in rows:
            check_length(row["example_id"], len(row["input_ids"]), self.context, 0)
            # Before anything is asked: what cannot be judged need not run.
            self._gold(row)
        return ask_in_batches(
            rows,
            [len(row["input_ids"]) for row in rows],
            self.batch_size,
            self.answer_fn,
            self._prediction,
            on_progress=on_progress,
            on_done=on_done,
        )

    def _prediction(self, row: Row, answer: Any, seconds: float) -> Prediction:
        return Prediction(
            example_id=row["example_id"],
            gold=self._gold(row),
            label=self._told(row, answer),
            scores=None if answer.scores is None else dict(answer.scores),
            raw_text=None,
            latency_s=seconds,
            prompt_tokens=len(row["input_ids"]),
            output_tokens=0,
        )

    def _gold(self, row: Row) -> str:
        name = KINDS[self.kind]
        found = row.get(name)
        if found is None:
            raise DataError(
                f"{row['example_id']}: it has no {name}, by which the head's answer is judged; "
                "name a suite of the format that the recipe trains on"
            )
        if self.kind == "tag":
            return as_text([self.tag_names[tag] for tag in found if tag != IGNORED])
        if self.kind == "multi":
            return as_text(sorted(found))
        return as_text(float(found)) if self.kind == "regress" else str(found)

    def _told(self, row: Row, answer: Any) -> str:
        """The answer as the table holds it."""
        if self.kind == "regress":
            return as_text(answer.value)
        if self.kind == "single":
            return str(answer.labels[0])
        if self.kind == "multi":
            return as_text(sorted(answer.labels))
        judged = [tag != IGNORED for tag in row["tags"]]
        return as_text([t for t, on in zip(answer.labels, judged, strict=True) if on])
