"""Answers with scores as arrays, so that a hundred thousand of them are quick to judge.

Legend: N items, L labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from eval.record import Prediction
from pipeline.core.errors import IntegrityError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

FLOOR = float(np.log(np.finfo(float).tiny))
"""The log of float64's smallest number, -708: a score of minus infinity counts as that."""


@dataclass(frozen=True)
class Scored:
    """What an arm thought of every label, for each item.

    Attributes:
        labels: the labels that it knows.
        logs: [N, L], natural log-probability of each, normalised over them.
        golds: [N], column of the right one; -1 where that is none of them: out of scope.
        evidence: [N], log P(text) in nats, where the arm gives it.
    """

    labels: tuple[str, ...]
    logs: Floats
    golds: Ints
    evidence: Floats | None = None

    def __len__(self) -> int:
        return len(self.golds)

    @cached_property
    def confidence(self) -> Floats:
        """[N], the highest probability of each item."""
        return np.asarray(np.exp(self.logs.max(axis=1)))

    @cached_property
    def right(self) -> Bools:
        """[N], whether the likeliest label is the right one."""
        return np.asarray(self.logs.argmax(axis=1) == self.golds)

    @property
    def in_scope(self) -> Scored:
        """The items whose right label is known to the arm."""
        inside_N = self.golds >= 0
        return self if inside_N.all() else self.where(inside_N)

    def where(self, chosen_N: Bools) -> Scored:
        """Some of the items."""
        evidence = None if self.evidence is None else self.evidence[chosen_N]
        return Scored(self.labels, self.logs[chosen_N], self.golds[chosen_N], evidence)

    def at(self, temperature: float) -> Scored:
        """The same with logits divided by a temperature (Guo et al. 2017, equation 9)."""
        return replace(self, logs=normalised(self.logs / temperature))


def normalised(log_NL: Floats) -> Floats:
    """Log-probabilities over the labels, from what differs from them by a constant of each item."""
    top_N1 = log_NL.max(axis=1, keepdims=True)
    # In place: of 100,000 items each further copy would be large.
    off_NL = log_NL - top_N1
    off_NL -= np.log(np.exp(off_NL).sum(axis=1, keepdims=True))
    return np.asarray(off_NL)


def scored(predictions: Sequence[Prediction]) -> Scored | None:
    """The scores of a task of one label; None where an answer has none.

    Raises:
        IntegrityError: a score is no number, or an item's are over other labels; names it.
    """
    if not predictions or any(prediction.scores is None for prediction in predictions):
        return None
    names = list(predictions[0].scores or ())
    rows = [_in_order(prediction, names) for prediction in predictions]
    flat = np.fromiter(itertools.chain.from_iterable(rows), float, len(rows) * len(names))
    log_NL = flat.reshape(len(rows), len(names))
    # The largest of an item is NaN where one is, and infinite where one is or all are lost.
    bad_N = ~np.isfinite(log_NL.max(axis=1))
    if bad_N.any():
        odd = predictions[int(bad_N.argmax())]
        raise IntegrityError(
            f"{odd.example_id}: a score is no number, or no label has one; evaluate the model "
            "again, its weights or its precision gave no number"
        )
    column = {label: index for index, label in enumerate(names)}
    gold_N = np.array([column.get(prediction.gold, -1) for prediction in predictions])
    evidence = [prediction.evidence for prediction in predictions]
    known = [value for value in evidence if value is not None]
    evidence_N = np.array(known) if len(known) == len(predictions) else None
    return Scored(tuple(names), normalised(np.maximum(log_NL, FLOOR)), gold_N, evidence_N)


def _in_order(prediction: Prediction, names: list[str]) -> Iterable[float]:
    scores = prediction.scores or {}
    if list(scores) == names:
        return scores.values()
    if scores.keys() != set(names):
        raise IntegrityError(
            f"{prediction.example_id}: its scores are over other labels than those of the first "
            "item; evaluate the model again"
        )
    return [scores[name] for name in names]
