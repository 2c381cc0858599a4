"""Lays the levels, the forms and the control side by side, and judges the gates.

Works on whatever part of a ladder was measured: what was not is None in the JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval import metrics
from eval.conclusions import sentences_of
from eval.gates import Gate, GateResult, verdict
from eval.judging import judged
from eval.known_items import Known, with_and_without
from eval.results import (
    LABELLED,
    ModelResult,
    answering,
    check_same_items,
    correct_table,
    losses_in_order,
    paired,
    reading,
)
from eval.statistics import (
    Interval,
    loss_interval,
    loss_ratio_interval,
    mean_interval,
    paired_difference,
)
from eval.task_figures import figure, label_sets
from eval.tasks import tasks_of
from pipeline.core.arms import FORM_NAMES, Arm

__all__ = ["Comparison", "ModelResult", "compare"]

LEVELS = ("L0", "L1", "L2")
_MISTAKES = 12


@dataclass(frozen=True)
class Comparison:
    """What stands proven. ``to_json`` has plain values only; ``sentences`` says it in words."""

    levels: dict[str, dict[str, Any]]
    steps: list[dict[str, Any]]
    heads: dict[str, dict[str, Any]]
    forms: dict[str, Any] | None
    chance: float | None
    gates: list[GateResult]
    models: list[dict[str, Any]]
    classes: dict[str, dict[str, Any]]
    contamination: int
    clean: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    suites: dict[str, str | None]

    @property
    def verdict(self) -> str:
        """All gates together: pass, fail, undecided or ungated."""
        return verdict(self.gates)

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values, its conclusions in words included."""
        record = {**self.__dict__, "gates": [_gate_json(result) for result in self.gates]}
        return {**record, "verdict": self.verdict, "sentences": self.sentences()}

    def sentences(self) -> list[str]:
        """Conclusions in words; what was not measured or not shown is said to be so."""
        return sentences_of(self)


def compare(
    results: Sequence[ModelResult],
    *,
    gates: Sequence[Gate],
    contamination: Known,
    domain_suite: str | None,
    general_suite: str | None,
    task_suite: str | None,
    through_l1: bool = True,
) -> Comparison:
    """Compares models that were measured on the same items.

    Args:
        results: base, parent, models and controls; the first model stands for its level.
        gates: the recipe's promises.
        contamination: training rows, of the model or an ancestor, that know items of an
            evaluation set; figures on those sets are given without these items too.
        domain_suite: text suite of the domain.
        general_suite: text suite of general text, for forgetting.
        task_suite: labelled suite that the forms are judged on.
        through_l1: whether the models stand on an L1 (or are one); else their figures are
            those without it.

    Raises:
        IntegrityError: two results were measured on different items; names both.
    """
    check_same_items(results)
    readers = {
        level: {
            "domain": reading(results, domain_suite, ("model", "parent", "base"), level),
            "general": reading(results, general_suite, ("model", "parent", "base"), level),
        }
        for level in LEVELS
    }
    suites = {"domain": domain_suite, "general": general_suite, "task": task_suite}
    heads = {head: _head(results, task_suite, arm, through_l1) for head, arm in FORM_NAMES.items()}
    return Comparison(
        levels={level: _level(readers[level], suites) for level in LEVELS},
        steps=_steps(readers, suites),
        heads={head: figures for head, figures in heads.items() if figures is not None},
        forms=_forms(results, task_suite),
        chance=_chance(results, task_suite),
        gates=[result for gate in gates for result in judged(gate, results, contamination.rows)],
        models=[_model(result, suites) for result in results],
        classes=_classes(results, task_suite),
        contamination=contamination.rows,
        clean=with_and_without(results, contamination),
        tasks=tasks_of(results, task_suite),
        suites=suites,
    )


def _chance(results: Sequence[ModelResult], suite: str | None) -> float | None:
    for result in results:
        if suite and suite in result.predictions and result.kind(suite) in LABELLED:
            return metrics.chance([p.gold for p in result.predictions[suite]])
    return None


def _level(readers: dict[str, ModelResult | None], suites: dict[str, str | None]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for kind in ("domain", "general"):
        reader, suite = readers[kind], suites[kind]
        figures[f"{kind}_loss"] = figures[f"{kind}_interval"] = None
        figures[f"{kind}_bits_per_byte"] = None
        if reader is not None and suite is not None:
            interval = loss_interval(losses_in_order(reader, suite), _rng())
            figures[f"{kind}_loss"] = interval.estimate
            figures[f"{kind}_interval"] = [interval.low, interval.high]
            figures[f"{kind}_bits_per_byte"] = metrics.bits_per_byte(reader.losses[suite])
    return figures


def _steps(
    readers: dict[str, dict[str, ModelResult | None]], suites: dict[str, str | None]
) -> list[dict[str, Any]]:
    """Ratio of token losses for each pair of levels, on both text suites."""
    steps = []
    for kind in ("domain", "general"):
        suite = suites[kind]
        for upper, lower in (("L1", "L0"), ("L2", "L1"), ("L2", "L0")):
            above, below = readers[upper][kind], readers[lower][kind]
            if suite is None or above is None or below is None:
                continue
            ratio = loss_ratio_interval(
                losses_in_order(above, suite), losses_in_order(below, suite), _rng()
            )
            steps.append({"text": kind, "level": upper, "against": lower, **_plain(ratio)})
    return steps


def _head(
    results: Sequence[ModelResult], suite: str | None, arm: Arm, through_l1: bool
) -> dict[str, Any] | None:
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
    interval = mean_interval(correct_table(results, suite))
    record = _plain(interval)
    return {"accuracy": record.pop("estimate"), **record, "seeds": len(results)}


def _difference(
    a: Sequence[ModelResult], b: Sequence[ModelResult], suite: str
) -> dict[str, Any] | None:
    ours, theirs = paired(a, b)
    if not ours:
        return None
    interval = paired_difference(correct_table(ours, suite), correct_table(theirs, suite))
    return {**_plain(interval), "seeds": len(ours)}


def _forms(results: Sequence[ModelResult], suite: str | None) -> dict[str, Any] | None:
    """Accuracy of the generative form less that of the classifier, paired by seed."""
    generative, classifier = (
        answering(results, suite, arm, "model") for arm in FORM_NAMES.values()
    )
    return _difference(generative, classifier, suite) if suite is not None else None


def _model(result: ModelResult, suites: dict[str, str | None]) -> dict[str, Any]:
    """One row of the table of all models; None where a figure was not measured."""
    row: dict[str, Any] = {
        name: getattr(result, name) for name in ("name", "level", "arm", "role", "seed")
    }
    predictions = result.predictions.get(suites["task"] or "")
    asked = result.kind(suites["task"])
    for name in ("accuracy", "macro_f1", "matthews", "unparseable", "ece", "brier", "nll"):
        row[name] = None
        if predictions and asked == "label":
            row[name] = getattr(metrics, name)(predictions)
        elif predictions and asked == "labels" and name in ("accuracy", "macro_f1"):
            row[name] = figure(asked, name, [predictions]).estimate
    for kind in ("domain", "general"):
        losses = result.losses.get(suites[kind] or "")
        row[f"{kind}_loss"] = metrics.token_loss(losses) if losses else None
    return {**row, "seconds": dict(result.seconds)}


def _classes(results: Sequence[ModelResult], suite: str | None) -> dict[str, dict[str, Any]]:
    """Per-class table and commonest mistakes of the first seed of each form."""
    found: dict[str, dict[str, Any]] = {}
    for head, arm in FORM_NAMES.items():
        models = answering(results, suite, arm, "model")
        if suite is None or not models:
            continue
        kind, predictions = models[0].kind(suite), models[0].predictions[suite]
        golds, answers = zip(*(label_sets(kind, p) for p in predictions), strict=True)
        # Of several labels none is mistaken for one other.
        pairs = metrics.confusion(predictions) if kind == "label" else {}
        wrong = [(pair, n) for pair, n in pairs.items() if len({*pair}) > 1]
        wrong.sort(key=lambda entry: (-entry[1], entry[0][0], entry[0][1] or ""))
        found[head] = {
            "model": models[0].name,
            "seed": models[0].seed,
            "per_class": [asdict(row) for row in metrics.per_label(golds, answers)],
            "mistakes": [
                {"gold": gold, "label": label, "items": items}
                for (gold, label), items in wrong[:_MISTAKES]
            ],
        }
    return found


def _plain(interval: Interval) -> dict[str, Any]:
    return {
        "estimate": interval.estimate,
        "low": _finite(interval.low),
        "high": _finite(interval.high),
        "covers": interval.covers,
    }


def _gate_json(result: GateResult) -> dict[str, Any]:
    record = asdict(result)
    gate = record.pop("gate")
    # `arm` of the result, not of the gate: a gate for every arm has one result for each.
    return {**gate, **record, "low": _finite(result.low), "high": _finite(result.high)}


def _finite(end: float | None) -> float | None:
    """JSON knows no infinity: an end that one document cannot tell is None."""
    return end if end is not None and np.isfinite(end) else None


def _rng() -> np.random.Generator:
    """A fresh generator for each interval, so that none depends on which came before."""
    return np.random.default_rng(0)
