"""Predictors whose model answers by a head: one label, several, a tag for each word, a number.

Legend: B rows of a batch, T tokens, L labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from eval.batching import OnProgress, Row, batches, check_length, padded
from eval.record import Kind, Prediction, as_text
from pipeline.core.errors import DataError, ModelError

if TYPE_CHECKING:
    import torch

    Score = Callable[[torch.Tensor, torch.Tensor, Sequence[Row]], torch.Tensor]

HeadKind = Literal["single", "multi", "tag", "regress"]
KINDS: dict[HeadKind, Kind] = {
    "single": "label",
    "multi": "labels",
    "tag": "tags",
    "regress": "value",
}
_NOT_JUDGED = -100
_HALF = 0.5


@dataclass(frozen=True)
class Answering:
    """How logits become an answer.

    Attributes:
        kind: of the head.
        labels: in the order of the logits; none of a number.
        value_mean, value_std: of the values that a number's head was trained on.
    """

    kind: HeadKind
    labels: tuple[str, ...] = ()
    value_mean: float = 0.0
    value_std: float = 1.0

    @property
    def outputs(self) -> int:
        """Logits of a row, or of a token of a tagger."""
        return 1 if self.kind == "regress" else len(self.labels)


class HeadPredictor:
    """Asks a head in batches.

    One label: the highest logit, scores by softmax. Several: each with a probability (sigmoid)
    of one half or more. Tags: the highest logit of each judged token. A number: the output,
    back on the scale of the training values.
    """

    def __init__(
        self,
        score_fn: Score,
        answering: Answering,
        *,
        batch_size: int,
        pad_id: int = 0,
        tag_names: Sequence[str] | None = None,
    ) -> None:
        """Takes ``score_fn(input_ids_BT, attention_mask_BT, rows)``, right padding.

        It gives logits [B, outputs], of a tagger [B, T, outputs].

        Args:
            score_fn: see above.
            answering: the head's labels and kind.
            batch_size: rows at a time.
            pad_id: any id of the vocabulary.
            tag_names: of the suite, in whose numbers its rows are tagged; by default the head's.

        Raises:
            ModelError: a label stands twice.
        """
        labels = answering.labels
        if len(set(labels)) != len(labels):
            raise ModelError(f"classifier predictor: {sorted(labels)}: a label stands twice")
        self.score_fn, self.answering = score_fn, answering
        self.batch_size, self.pad_id = batch_size, pad_id
        self.tag_names = tuple(tag_names if tag_names is not None else labels)

    def predict(
        self, rows: Sequence[Row], *, on_progress: OnProgress | None = None
    ) -> list[Prediction]:
        """Answers rows of ``example_id``, ``input_ids`` and label, labels, tags or value.

        Raises:
            DataError: a row has no tokens, or not what it should be judged by.
            ModelError: logits of another shape, or one that is no number.
        """
        import torch

        for row in rows:
            check_length(row["example_id"], len(row["input_ids"]), None, 0)
        golds = [self._gold(row) for row in rows]
        answers: list[Prediction | None] = [None] * len(rows)
        done = 0
        with torch.inference_mode():
            for batch in batches([len(row["input_ids"]) for row in rows], self.batch_size):
                chosen = [rows[index] for index in batch]
                start = time.perf_counter()
                ids_BT, mask_BT = padded(
                    [row["input_ids"] for row in chosen], self.pad_id, left=False, device=None
                )
                logits = self.score_fn(ids_BT, mask_BT, chosen)
                self._require_sound(chosen, logits, ids_BT.shape[1])
                found = self._answers(chosen, logits.double())
                seconds = (time.perf_counter() - start) / len(batch)
                for index, row, (label, scores) in zip(batch, chosen, found, strict=True):
                    answers[index] = Prediction(
                        row["example_id"], golds[index], label, scores, None, seconds,
                        len(row["input_ids"]), 0,
                    )  # fmt: skip
                done += len(batch)
                if on_progress is not None:
                    on_progress(done, len(rows))
        return [answer for answer in answers if answer is not None]

    def _gold(self, row: Row) -> str:
        kind = self.answering.kind
        name = {"single": "label", "multi": "labels", "tag": "tags", "regress": "value"}[kind]
        found = row.get(name)
        if found is None:
            raise DataError(
                f"{row['example_id']}: it has no {name}, by which the head's answer is judged; "
                "name a suite of the format that the recipe trains on"
            )
        if kind == "tag":
            return as_text([self.tag_names[tag] for tag in found if tag != _NOT_JUDGED])
        if kind == "multi":
            return as_text(sorted(found))
        return as_text(float(found)) if kind == "regress" else str(found)

    def _require_sound(self, rows: Sequence[Row], logits: torch.Tensor, tokens: int) -> None:
        outputs = self.answering.outputs
        wanted: tuple[int, ...] = (len(rows), outputs)
        if self.answering.kind == "tag":
            wanted = (len(rows), tokens, outputs)
        if tuple(logits.shape) != wanted:
            raise ModelError(
                f"classifier: logits of shape {tuple(logits.shape)} for {len(rows)} rows and "
                f"{outputs} labels; the head belongs to another label set"
            )
        for row, finite in zip(rows, logits.isfinite().flatten(1).all(dim=1).tolist(), strict=True):
            if not finite:
                raise ModelError(
                    f"classifier: {row['example_id']}: a logit is no number; "
                    "look at the weights, or evaluate in float32"
                )

    def _answers(
        self, rows: Sequence[Row], logits: torch.Tensor
    ) -> list[tuple[str, dict[str, float] | None]]:
        """Answer and scores of each row."""
        how = self.answering
        if how.kind == "regress":
            values = (logits[:, 0] * how.value_std + how.value_mean).tolist()
            return [(as_text(value), None) for value in values]
        if how.kind == "tag":
            best_BT = logits.argmax(dim=2).tolist()
            return [(as_text(self._tags(row, best)), None)
                    for row, best in zip(rows, best_BT, strict=True)]  # fmt: skip
        several = how.kind == "multi"
        probabilities = (logits.sigmoid() if several else logits.softmax(dim=1)).tolist()
        answers: list[tuple[str, dict[str, float] | None]] = []
        for row in probabilities:
            scores = dict(zip(how.labels, row, strict=True))
            if several:
                given = as_text(sorted(label for label, p in scores.items() if p >= _HALF))
            else:
                given = max(scores, key=scores.__getitem__)
            answers.append((given, scores))
        return answers

    def _tags(self, row: Row, best: Sequence[int]) -> list[str]:
        """The tags of the judged tokens; ``best`` is as long as the batch's longest row."""
        labels = self.answering.labels
        return [labels[best[place]] for place, tag in enumerate(row["tags"]) if tag != _NOT_JUDGED]
