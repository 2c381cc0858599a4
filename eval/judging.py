"""Finds the figure that each gate asks for among the results, and judges it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from eval.bits import bits_interval, bits_ratio_interval
from eval.calibration import BINS
from eval.calibration_error import ece_interval
from eval.gates import UNQUANTISED, Gate, GateResult, judge
from eval.metrics import chance
from eval.results import (
    LABELLED,
    ModelResult,
    Role,
    answering,
    by_model,
    clusters_in_order,
    correct_table,
    losses_in_order,
    matched,
    reading,
)
from eval.statistics import (
    Interval,
    exact,
    loss_interval,
    loss_ratio_interval,
    mean_interval,
    paired_difference,
    shifted,
)
from eval.task_figures import f1_difference, figure, kinds_with
from pipeline.core.arms import FORM_NAMES, REFERENCES, Arm
from pipeline.core.gate_bounds import OF_TEXT

# A recipe straight over L0 has no other parent than the base.
_ROLES: Mapping[str, tuple[Role, ...]] = {
    "base": ("base",),
    "parent": ("parent", "base"),
    "control": ("control",),
    UNQUANTISED: (UNQUANTISED,),
}


def judged(
    gate: Gate, results: Sequence[ModelResult], contamination: int, bins: int = BINS
) -> list[GateResult]:
    """One result for each arm that the gate holds for; one alone for texts and contamination.

    Args:
        contamination: training rows that know an item of an evaluation set.
        bins: of the calibration error.
    """
    if gate.metric == "contamination":
        return [judge(gate, exact(contamination))]
    if gate.metric in OF_TEXT:
        return [_judged_text(gate, results)]
    found = [_judged_task(gate, models, results, bins) for models in _judged_models(gate, results)]
    return found or [judge(gate, None, arm=gate.arm, missing="no model has it on this suite")]


def _judged_models(gate: Gate, results: Sequence[ModelResult]) -> list[list[ModelResult]]:
    """The recipe's models that a gate holds for, the seeds of each together.

    Of several ways of asking one model, a gate that names none holds for the first of its form:
    the others are there to be compared with.
    """
    kinds = LABELLED if gate.metric == "ece" else kinds_with(gate.metric)
    ours = [
        result
        for result in results
        if result.role == "model"
        and gate.arm in (None, result.arm)
        and gate.suite in result.predictions
        and result.kind(gate.suite) in kinds
    ]
    groups = by_model(ours)
    if gate.arm is None:
        first = [models for models in groups if models[0].arm in FORM_NAMES.values()]
        groups = first or groups[:1] if ours and ours[0].kind(gate.suite) in LABELLED else groups
    return [models for models in groups if models[0].arm != gate.against]


def _judged_task(
    gate: Gate, models: Sequence[ModelResult], results: Sequence[ModelResult], bins: int
) -> GateResult:
    # Two of one seed are refused.
    answering(models, gate.suite, models[0].arm, "model")
    arm = models[0].arm if models[0].kind(gate.suite) in LABELLED else None
    if gate.against == "none":
        measured = _figure(gate, models, bins)
        if measured is None or math.isnan(measured.low):
            return judge(gate, None, arm=arm, missing="too few items, or no scores")
        return judge(gate, measured, arm=arm)
    if gate.against == "chance":
        # Chance is a property of these very items: a constant.
        level = chance([prediction.gold for prediction in models[0].predictions[gate.suite]])
        return judge(gate, shifted(_accuracy(models, gate.suite), -level), arm=arm)
    others = _others(gate, models[0].arm, results)
    if not others:
        missing = f"no {gate.against} answered this suite in this form"
        return judge(gate, None, arm=arm, missing=missing)
    pair = matched(models, others)
    if pair is None:
        return judge(gate, None, arm=arm, missing=f"no seed in common with {gate.against}")
    difference = _difference(gate, *pair)
    if math.isnan(difference.low):
        return judge(gate, None, arm=arm, missing="too few items")
    return judge(gate, difference, arm=arm)


def _figure(gate: Gate, models: Sequence[ModelResult], bins: int) -> Interval | None:
    clusters = clusters_in_order(models[0], gate.suite)
    tables = [model.predictions[gate.suite] for model in models]
    if gate.metric == "ece":
        return ece_interval(tables, clusters, bins)
    return figure(models[0].kind(gate.suite), gate.metric, tables, clusters)


def _accuracy(models: Sequence[ModelResult], suite: str) -> Interval:
    return mean_interval(correct_table(models, suite), clusters_in_order(models[0], suite))


def _others(gate: Gate, arm: Arm, results: Sequence[ModelResult]) -> list[ModelResult]:
    """The results that a model of an arm is held against."""
    if gate.against in REFERENCES:
        return answering(results, gate.suite, gate.against, "reference")
    if gate.against not in _ROLES:
        return answering(results, gate.suite, gate.against, "model")
    for role in _ROLES[gate.against]:
        others = answering(results, gate.suite, arm, role)
        if others:
            return others
    return []


def _difference(gate: Gate, a: Sequence[ModelResult], b: Sequence[ModelResult]) -> Interval:
    clusters = clusters_in_order(a[0], gate.suite)
    if gate.metric == "accuracy":
        right = [correct_table(side, gate.suite) for side in (a, b)]
        return paired_difference(right[0], right[1], clusters)
    ours, theirs = ([model.predictions[gate.suite] for model in side] for side in (a, b))
    return f1_difference(a[0].kind(gate.suite), gate.metric, ours, theirs, clusters)


def _judged_text(gate: Gate, results: Sequence[ModelResult]) -> GateResult:
    ours = [result for result in results if gate.arm in (None, result.arm)]
    model = reading(ours, gate.suite, ("model",))
    if model is None:
        return judge(gate, None, arm=gate.arm, missing="no model read this suite")
    losses, rng = losses_in_order(model, gate.suite), np.random.default_rng(0)
    bits = gate.metric == "bits_per_byte"
    if gate.against == "none":
        measured = bits_interval(losses, rng) if bits else loss_interval(losses, rng)
        return judge(gate, measured, arm=gate.arm, missing="bytes of the texts are not known")
    other = reading(results, gate.suite, _ROLES[gate.against])
    if other is None:
        return judge(gate, None, arm=gate.arm, missing=f"no {gate.against} read this suite")
    ratio = bits_ratio_interval if bits else loss_ratio_interval
    return judge(gate, ratio(losses, losses_in_order(other, gate.suite), rng), arm=gate.arm)
