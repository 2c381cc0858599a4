"""Figures of merit over predictions and text losses; pure functions.

Definitions follow scikit-learn, which the tests hold them to. An answer that is no label is
its own class among the answers, so it costs recall and never precision of a real class.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval import calibration
from eval.record import Prediction, TextLoss
from eval.scored import Scored, scored
from pipeline.core import tallies
from pipeline.core.tallies import f1, ratio

ECE_BINS = calibration.BINS


@dataclass(frozen=True)
class ClassFigures:
    """How one label fared: shares in [0, 1], support in items."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


def unparseable(predictions: Sequence[Prediction]) -> float:
    """Share of answers that are no label."""
    if not predictions:
        raise ValueError("a share of no items")
    return sum(prediction.label is None for prediction in predictions) / len(predictions)


def chance(golds: Sequence[str]) -> float:
    """Accuracy of always answering the commonest label of these items."""
    if not golds:
        raise ValueError("chance of no items")
    return max(Counter(golds).values()) / len(golds)


def label_figures(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Figures of items of one label.

    Returns:
        ``accuracy``, an answer that is no label being wrong; ``macro_f1``, the plain mean over
        the labels that are gold or were answered; ``matthews``, the multiclass correlation in
        [-1, 1], 0 where it is undefined (Gorodkin 2004); ``unparseable``, the share of no label.
    """
    if not predictions:
        raise ValueError("figures of no items")
    pairs, items = confusion(predictions), len(predictions)
    return {
        "accuracy": sum(n for (gold, answer), n in pairs.items() if gold == answer) / items,
        "macro_f1": float(tallies.macro_f1(_class_counts(pairs)[1])),
        "matthews": _matthews(pairs),
        "unparseable": sum(n for (_, answer), n in pairs.items() if answer is None) / items,
    }


def confusion(predictions: Sequence[Prediction]) -> dict[tuple[str, str | None], int]:
    """Items for each pair (gold, answer); pairs that never occur are absent."""
    return dict(Counter((prediction.gold, prediction.label) for prediction in predictions))


def per_class(predictions: Sequence[Prediction]) -> list[ClassFigures]:
    """One row for each label that is gold or was answered, by label.

    A ratio without a denominator is 0, as scikit-learn's ``zero_division=0``.
    """
    return _class_rows(*_class_counts(confusion(predictions)))


def per_label(golds: Sequence[Set[str]], answers: Sequence[Set[str]]) -> list[ClassFigures]:
    """``per_class`` of items that have any number of labels each."""
    return _class_rows(*_label_counts(golds, answers))


def _class_rows(labels: Sequence[str], counts_3L: npt.NDArray[np.float64]) -> list[ClassFigures]:
    right_L, answered_L, gold_L = counts_3L
    columns = (ratio(right_L, answered_L), ratio(right_L, gold_L), f1(counts_3L.T), gold_L)
    return [
        ClassFigures(label, float(precision), float(recall), float(both), int(support))
        for label, precision, recall, both, support in zip(labels, *columns, strict=True)
    ]


def _class_counts(
    pairs: Mapping[tuple[str, str | None], int],
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """``_label_counts`` of items of one label; an answer that is no label answers none."""
    labels = sorted({label for pair in pairs for label in pair if label is not None})
    row = {label: index for index, label in enumerate(labels)}
    counts_3L = np.zeros((3, len(labels)))
    for (gold, answer), items in pairs.items():
        counts_3L[2, row[gold]] += items
        if answer is not None:
            counts_3L[1, row[answer]] += items
            counts_3L[0, row[answer]] += items * (answer == gold)
    return labels, counts_3L


def _label_counts(
    golds: Sequence[Set[str]], answers: Sequence[Set[str]]
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """The labels that are gold or were answered, and of each [3, L]: right, answered, gold."""
    gold = Counter(label for one in golds for label in one)
    answered = Counter(label for answer in answers for label in answer)
    pairs = zip(golds, answers, strict=True)
    right = Counter(label for one, answer in pairs for label in one & answer)
    labels = sorted(gold.keys() | answered.keys())
    rows = [[counted[label] for label in labels] for counted in (right, answered, gold)]
    return labels, np.array(rows, dtype=float)


def _matthews(pairs: Mapping[tuple[str, str | None], int]) -> float:
    gold: Counter[str | None] = Counter()
    answered: Counter[str | None] = Counter()
    for (one, answer), number in pairs.items():
        gold[one] += number
        answered[answer] += number
    items = sum(gold.values())
    right = sum(number for (one, answer), number in pairs.items() if one == answer)
    together = sum(gold[label] * answered[label] for label in gold)
    spread_answered = items**2 - sum(count**2 for count in answered.values())
    spread_gold = items**2 - sum(count**2 for count in gold.values())
    if not spread_answered * spread_gold:
        return 0.0
    return (right * items - together) / math.sqrt(spread_answered * spread_gold)


def ece(predictions: Sequence[Prediction], bins: int = ECE_BINS) -> float | None:
    """Expected calibration error over equal-width bins; None without scores or out of scope."""
    table = _scored(predictions)
    return None if table is None else calibration.ece(table, bins)


def brier(predictions: Sequence[Prediction]) -> float | None:
    """Brier score over all labels, 0 to 2; None without scores or out of scope."""
    table = _scored(predictions)
    return None if table is None else calibration.brier(table)


def nll(predictions: Sequence[Prediction]) -> float | None:
    """Mean negative log-probability of the gold label in nats; None without scores or out of
    scope."""
    table = _scored(predictions)
    return None if table is None else calibration.nll(table)


def _scored(predictions: Sequence[Prediction]) -> Scored | None:
    table = scored(predictions)
    return None if table is None or (table.golds < 0).any() else table


def token_loss(losses: Sequence[TextLoss]) -> float:
    """Negative log-likelihood in nats for each scored token, over all documents together."""
    tokens = sum(loss.tokens for loss in losses)
    if not tokens:
        raise ValueError("token loss of no tokens")
    return math.fsum(loss.nll_sum for loss in losses) / tokens


def bits_per_byte(losses: Sequence[TextLoss]) -> float | None:
    """Bits for each UTF-8 byte: compares models of different tokenizers; None without bytes."""
    if any(loss.tokens and not loss.utf8_bytes for loss in losses):
        return None
    size_bytes = sum(loss.utf8_bytes for loss in losses)
    if not size_bytes:
        return None
    return math.fsum(loss.nll_sum for loss in losses) / math.log(2) / size_bytes
