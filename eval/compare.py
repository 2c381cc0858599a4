"""Lays the levels, the forms and the control side by side, and judges the gates.

Works on whatever part of a ladder was measured: what was not is None in the JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval import calibration, metrics
from eval.arm_figures import arm_rows
from eval.calibration import BINS
from eval.conclusions import sentences_of
from eval.disagreements import disagreements_of
from eval.forgetting import forgetting_of
from eval.forms import classes_of, finite, forms_apart, head_figures, plain_json
from eval.gap import gaps_of
from eval.gates import Gate, GateResult, verdict
from eval.judging import judged
from eval.known_items import Known, with_and_without
from eval.recommendation import MARGIN, recommendation_of
from eval.results import (
    LABELLED,
    ModelResult,
    check_same_items,
    losses_in_order,
    reading,
)
from eval.selective import TARGETS
from eval.statistics import (
    loss_interval,
    loss_ratio_interval,
)
from eval.task_figures import figure
from eval.tasks import tasks_of
from eval.ways import pairs_of, ways_of
from pipeline.core.arms import FORM_NAMES

__all__ = ["Comparison", "ModelResult", "compare", "gate_json"]

LEVELS = ("L0", "L1", "L2")
_OF_LABELS = ("accuracy", "macro_f1", "matthews", "unparseable")
_OF_SCORES = ("ece", "brier", "nll")


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
    arms: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    disagreements: dict[str, Any] | None
    recommendation: dict[str, Any] | None
    gap: list[dict[str, Any]]
    forgetting: list[dict[str, Any]]

    @property
    def verdict(self) -> str:
        """All gates together: pass, fail, undecided or ungated."""
        return verdict(self.gates)

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values, its conclusions in words included."""
        record = {**self.__dict__, "gates": [gate_json(result) for result in self.gates]}
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
    beside: Sequence[ModelResult] = (),
    texts: Mapping[str, Mapping[str, str]] | None = None,
    margin: float = MARGIN,
    confidence_bins: int = BINS,
    target_precision: Sequence[float] = TARGETS,
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
        beside: what else was measured of these models, such as instructions that they followed:
            gates and forgetting look at it.
        texts: suite > item > its text, to show items with.
        margin: of accuracy, by which the recommended way may be worse than the best.
        confidence_bins: of the calibration error.
        target_precision: shares of right answers for which a threshold is chosen.

    Raises:
        IntegrityError: two results were measured on different items; names both.
    """
    every = [*results, *beside]
    check_same_items(every)
    readers = {
        level: {
            "domain": reading(results, domain_suite, ("model", "parent", "base"), level),
            "general": reading(results, general_suite, ("model", "parent", "base"), level),
        }
        for level in LEVELS
    }
    suites = {"domain": domain_suite, "general": general_suite, "task": task_suite}
    heads = {
        head: head_figures(results, task_suite, arm, through_l1) for head, arm in FORM_NAMES.items()
    }
    ways, chance = ways_of(results, task_suite), _chance(results, task_suite)
    of_l1 = any(result.role == "model" and result.level == "L1" for result in results)
    return Comparison(
        levels={level: _level(readers[level], suites) for level in LEVELS},
        steps=_steps(readers, suites),
        heads={head: figures for head, figures in heads.items() if figures is not None},
        forms=forms_apart(results, task_suite),
        chance=chance,
        gates=[
            result
            for gate in gates
            for result in judged(gate, every, contamination.rows, confidence_bins)
        ],
        models=[_model(result, suites, confidence_bins) for result in results],
        classes=classes_of(results, task_suite),
        contamination=contamination.rows,
        clean=with_and_without(results, contamination),
        tasks=tasks_of(results, task_suite),
        suites=suites,
        arms=arm_rows(ways, confidence_bins, target_precision),
        pairs=pairs_of(ways),
        disagreements=disagreements_of(ways, (texts or {}).get(task_suite or "", {})),
        recommendation=recommendation_of(ways, chance, margin),
        gap=gaps_of(ways),
        forgetting=forgetting_of(every, (task_suite, domain_suite if of_l1 else None)),
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
            steps.append({"text": kind, "level": upper, "against": lower, **plain_json(ratio)})
    return steps


def _model(result: ModelResult, suites: dict[str, str | None], bins: int) -> dict[str, Any]:
    """One row of the table of all models; None where a figure was not measured."""
    row: dict[str, Any] = {
        name: getattr(result, name) for name in ("name", "level", "arm", "role", "seed")
    }
    suite = suites["task"] or ""
    predictions, asked = result.predictions.get(suite), result.kind(suite)
    row |= dict.fromkeys((*_OF_LABELS, *_OF_SCORES))
    if predictions and asked == "label":
        row |= result.label_figures(suite)
    elif predictions and asked == "labels":
        for name in ("accuracy", "macro_f1"):
            row[name] = figure(asked, name, [predictions]).estimate
    table = result.scored(suite) if predictions and asked == "label" else None
    if table is not None and (table.golds >= 0).all():
        row |= {"brier": calibration.brier(table), "nll": calibration.nll(table)}
        row["ece"] = calibration.ece(table, bins)
    for kind in ("domain", "general"):
        losses = result.losses.get(suites[kind] or "")
        row[f"{kind}_loss"] = metrics.token_loss(losses) if losses else None
    return {**row, "seconds": dict(result.seconds)}


def gate_json(result: GateResult) -> dict[str, Any]:
    """A gate and how it ended as JSON values."""
    record = asdict(result)
    gate = record.pop("gate")
    # `arm` of the result, not of the gate: a gate for every arm has one result for each.
    return {**gate, **record, "low": finite(result.low), "high": finite(result.high)}


def _rng() -> np.random.Generator:
    """A fresh generator for each interval, so that none depends on which came before."""
    return np.random.default_rng(0)
