"""Rungs that learn from train in seconds: their scores as the one table of predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from eval.batching import OnProgress
from eval.record import Prediction, as_text
from eval.references.neighbours import Encoder, fit_neighbours
from eval.references.task import Item, OnDone, Task
from eval.references.text_models import fit_text_model

Floats = npt.NDArray[np.float64]
# Rows to their log-probabilities [N, seen labels], and the tokens that a model read of each.
Judge = Callable[[Sequence[Item]], tuple[Floats, Sequence[int]]]
_AT_ONCE = 256


@dataclass(frozen=True)
class Learned:
    """A fitted rung.

    Attributes:
        seen: the labels that train has rows of, sorted.
        told: what was chosen, and by what.
        device: where it computes.
    """

    task: Task
    seen: tuple[str, ...]
    judge: Judge
    told: Mapping[str, Any]
    device: Literal["cpu", "cuda"] = "cpu"

    def answers(
        self,
        items: Sequence[Item],
        on_progress: OnProgress | None = None,
        on_done: OnDone | None = None,
    ) -> list[Prediction]:
        """One answer for each item, with a score for each label of the task.

        Args:
            on_done: called with what each batch has finished.
        """
        found: list[Prediction] = []
        for start in range(0, len(items), _AT_ONCE):
            chosen = items[start : start + _AT_ONCE]
            began = time.perf_counter()
            logs, tokens = self.judge(chosen)
            each_s = (time.perf_counter() - began) / len(chosen)
            batch = [
                self._prediction(item, row, each_s, read)
                for item, row, read in zip(chosen, logs, tokens, strict=True)
            ]
            found += batch
            if on_done is not None:
                on_done(batch)
            if on_progress is not None:
                on_progress(len(found), len(items))
        return found

    def _prediction(self, item: Item, row: Floats, latency_s: float, tokens: int) -> Prediction:
        scores = spread(self.task, self.seen, row.tolist())
        if self.task.several:
            on = [name for name, log in scores.items() if log >= np.log(0.5)]
            label = as_text(sorted(on))
        else:
            label = max(self.seen, key=scores.__getitem__)
        gold = self.task.gold(item)
        return Prediction(item.example_id, gold, label, scores, None, latency_s, tokens, 0)


def spread(task: Task, seen: Sequence[str], logs: Sequence[float]) -> dict[str, float]:
    """Log-probabilities of every label of the task.

    A label of which train has no row has what Laplace's rule gives it after as many rows, and
    the others make room for it: it is never answered, and an item of it has a score.
    """
    unseen = task.unseen
    rows = len(task.train)
    if task.several:
        return {
            **dict(zip(seen, logs, strict=True)),
            **dict.fromkeys(unseen, float(-np.log(rows + 2))),
        }
    each = 1 / (rows + len(task.labels))
    room = np.log1p(-each * len(unseen))
    found = {name: float(log + room) for name, log in zip(seen, logs, strict=True)}
    return {**found, **dict.fromkeys(unseen, float(np.log(each)))}


def fit_words(name: Literal["tfidf_bayes", "tfidf_logreg"], task: Task, seed: int) -> Learned:
    """One of the TF-IDF rungs, fitted on train.

    Raises:
        DataError: there is nothing to learn from.
    """
    model = fit_text_model(name, task, seed)

    def judge(items: Sequence[Item]) -> tuple[Floats, Sequence[int]]:
        # No language model reads them: they cost no tokens.
        return model.log_probabilities([item.text for item in items]), [0] * len(items)

    return Learned(task, model.labels, judge, {**model.told, **_told(task)})


def fit_nearest(task: Task, encoder: Encoder) -> Learned:
    """Nearest neighbours among the rows of train.

    Raises:
        DataError: there is nothing to learn from.
    """
    model = fit_neighbours(task, encoder.vectors)
    cut = encoder.cut

    def judge(items: Sequence[Item]) -> tuple[Floats, Sequence[int]]:
        vectors = encoder.vectors([item.text for item in items])
        return model.log_probabilities(vectors), encoder.tokens

    told = {**model.told, **_told(task), "texts_cut": cut}
    return Learned(task, model.labels, judge, told, encoder.device)


def _told(task: Task) -> dict[str, Any]:
    unseen = task.unseen
    return {"rows": len(task.train), **({"labels_without_rows": unseen} if unseen else {})}
