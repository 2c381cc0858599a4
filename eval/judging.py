"""Finds the figure that each gate asks for among the results, and judges it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eval.gates import Gate, GateResult, judge
from eval.metrics import chance
from eval.results import (
    ModelResult,
    answering,
    by_model,
    correct_table,
    losses_in_order,
    paired,
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
from eval.task_figures import figure, kinds_with
from pipeline.core.arms import Arm

_ANSWERING: tuple[Arm, ...] = ("generate", "classifier")

# A recipe straight over L0 has no other parent than the base.
_ROLES = {"base": ("base",), "parent": ("parent", "base"), "control": ("control",)}


def judged(gate: Gate, results: Sequence[ModelResult], contamination: int) -> list[GateResult]:
    """One result for each arm that the gate holds for; one alone for loss and contamination."""
    if gate.metric == "contamination":
        return [judge(gate, exact(contamination))]
    if gate.metric == "loss":
        return [_judged_loss(gate, results)]
    if gate.metric != "accuracy":
        return _judged_figures(gate, results)
    arms = [gate.arm] if gate.arm else _ANSWERING
    found = [
        _judged_accuracy(gate, arm, models, results)
        for arm in arms
        if (models := answering(results, gate.suite, arm, "model"))
    ]
    return found or [judge(gate, None, arm=gate.arm, missing="no model answered this suite")]


def _judged_figures(gate: Gate, results: Sequence[ModelResult]) -> list[GateResult]:
    """One result for each model that the figure was measured of; an arm has its own name."""
    kinds = kinds_with(gate.metric)
    ours = [
        result
        for result in results
        if result.role == "model"
        and gate.arm in (None, result.arm)
        and gate.suite in result.predictions
        and result.kind(gate.suite) in kinds
    ]
    found = []
    for models in by_model(ours):
        first = models[0]
        tables = [model.predictions[gate.suite] for model in models]
        measured = figure(first.kind(gate.suite), gate.metric, tables)
        arm = next((arm for arm in _ANSWERING if arm == first.arm), None)
        if math.isnan(measured.low):
            found.append(judge(gate, None, arm=arm, missing="too few items for an interval"))
        else:
            found.append(judge(gate, measured, arm=arm))
    return found or [
        judge(gate, None, arm=gate.arm, missing="no model has this figure on this suite")
    ]


def _judged_loss(gate: Gate, results: Sequence[ModelResult]) -> GateResult:
    ours = [result for result in results if gate.arm in (None, result.arm)]
    model = reading(ours, gate.suite, ("model",))
    if model is None:
        return judge(gate, None, arm=gate.arm, missing="no model read this suite")
    losses = losses_in_order(model, gate.suite)
    if gate.against == "none":
        return judge(gate, loss_interval(losses, np.random.default_rng(0)), arm=gate.arm)
    other = reading(results, gate.suite, _ROLES[gate.against])
    if other is None:
        return judge(gate, None, arm=gate.arm, missing=f"no {gate.against} read this suite")
    ratio = loss_ratio_interval(
        losses, losses_in_order(other, gate.suite), np.random.default_rng(0)
    )
    return judge(gate, ratio, arm=gate.arm)


def _judged_accuracy(
    gate: Gate, arm: Arm, models: Sequence[ModelResult], results: Sequence[ModelResult]
) -> GateResult:
    correct = correct_table(models, gate.suite)
    if gate.against == "none":
        return judge(gate, mean_interval(correct), arm=arm)
    if gate.against == "chance":
        # Chance is a property of these very items: a constant.
        level = chance([prediction.gold for prediction in models[0].predictions[gate.suite]])
        return judge(gate, shifted(mean_interval(correct), -level), arm=arm)
    for role in _ROLES[gate.against]:
        others = answering(results, gate.suite, arm, role)
        if others:
            return _judged_difference(gate, arm, models, others)
    return judge(gate, None, arm=arm, missing=f"no {gate.against} answered this suite in this form")


def _judged_difference(
    gate: Gate, arm: Arm, models: Sequence[ModelResult], others: Sequence[ModelResult]
) -> GateResult:
    difference: Interval | None = None
    if gate.against != "control" and len(others) == 1:
        # One set of weights below: every seed of the model stands against it.
        difference = paired_difference(
            correct_table(models, gate.suite), correct_table(others, gate.suite)
        )
    else:
        ours, theirs = paired(models, others)
        if ours:
            difference = paired_difference(
                correct_table(ours, gate.suite), correct_table(theirs, gate.suite)
            )
    return judge(gate, difference, arm=arm, missing=f"no seed in common with {gate.against}")
