"""The two forms of answering side by side: with and without the level between, and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from eval import metrics
from eval.record import Kind, Prediction
from eval.results import ModelResult, answering, clusters_in_order, correct_table, paired
from eval.statistics import Interval, mean_interval, paired_difference
from eval.task_figures import label_sets
from pipeline.core.arms import FORM_NAMES, Arm

_MISTAKES = 12


def head_figures(
    results: Sequence[ModelResult], suite: str | None, arm: Arm, through_l1: bool
) -> dict[str, Any] | None:
    """Accuracy of one form with and without L1, and their paired difference; None unmeasured."""
    models = answering(results, suite, arm, "model")
    if suite is None or not models:
        return None
    controls = answering(results, suite, arm, "control")
    if not through_l1:
        return {"with_l1": None, "without_l1": _accuracy(models, suite), "difference": None}
    difference = _difference(models, controls, suite)
    return {
        "with_l1": _accuracy(models, suite),
        "without_l1": _accuracy(controls, suite) if controls else None,
        "difference": difference,
    }


def _accuracy(results: Sequence[ModelResult], suite: str) -> dict[str, Any]:
    clusters = clusters_in_order(results[0], suite)
    interval = mean_interval(correct_table(results, suite), clusters)
    record = plain_json(interval)
    return {"accuracy": record.pop("estimate"), **record, "seeds": len(results)}


def _difference(
    a: Sequence[ModelResult], b: Sequence[ModelResult], suite: str
) -> dict[str, Any] | None:
    ours, theirs = paired(a, b)
    if not ours:
        return None
    right = [correct_table(side, suite) for side in (ours, theirs)]
    interval = paired_difference(right[0], right[1], clusters_in_order(ours[0], suite))
    return {**plain_json(interval), "seeds": len(ours)}


def forms_apart(results: Sequence[ModelResult], suite: str | None) -> dict[str, Any] | None:
    """Accuracy of the generative form less that of the classifier, paired by seed."""
    generative, classifier = (
        answering(results, suite, arm, "model") for arm in FORM_NAMES.values()
    )
    return _difference(generative, classifier, suite) if suite is not None else None


def classes_of(results: Sequence[ModelResult], suite: str | None) -> dict[str, dict[str, Any]]:
    """Per-class table and commonest mistakes of the first seed of each form."""
    found: dict[str, dict[str, Any]] = {}
    for head, arm in FORM_NAMES.items():
        models = answering(results, suite, arm, "model")
        if suite is None or not models:
            continue
        kind, predictions = models[0].kind(suite), models[0].predictions[suite]
        figures = _per_class(kind, predictions)
        # Of several labels none is mistaken for one other.
        pairs = metrics.confusion(predictions) if kind == "label" else {}
        wrong = [(pair, n) for pair, n in _in_order(pairs) if len({*pair}) > 1]
        found[head] = {
            "model": models[0].name,
            "seed": models[0].seed,
            "per_class": [asdict(row) for row in figures],
            "confusion": [[gold, label, n] for (gold, label), n in _in_order(pairs)],
            "mistakes": [
                {"gold": gold, "label": label, "items": items}
                for (gold, label), items in wrong[:_MISTAKES]
            ],
        }
    return found


def _in_order(
    pairs: Mapping[tuple[str, str | None], int],
) -> list[tuple[tuple[str, str | None], int]]:
    """Gold and answered label with their items, the commonest first."""
    return sorted(pairs.items(), key=lambda entry: (-entry[1], entry[0][0], entry[0][1] or ""))


def _per_class(kind: Kind, predictions: Sequence[Prediction]) -> list[metrics.ClassFigures]:
    if kind == "label":
        return metrics.per_class(predictions)
    golds, answers = zip(*(label_sets(kind, p) for p in predictions), strict=True)
    return metrics.per_label(golds, answers)


def plain_json(interval: Interval) -> dict[str, Any]:
    """An interval as JSON values."""
    return {
        "estimate": interval.estimate,
        "low": finite(interval.low),
        "high": finite(interval.high),
        "covers": interval.covers,
    }


def finite(end: float | None) -> float | None:
    """JSON knows no infinity: an end that one document cannot tell is None."""
    return end if end is not None and np.isfinite(end) else None
