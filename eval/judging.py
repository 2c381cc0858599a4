"""Finds the figure that each gate asks for among the results, and judges it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eval.gates import Gate, GateResult, Head, judge
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

HEADS: tuple[Head, ...] = ("generative", "classifier")

# A recipe straight over L0 has no other parent than the base.
_ROLES = {"base": ("base",), "parent": ("parent", "base"), "control": ("control",)}


def judged(gate: Gate, results: Sequence[ModelResult], contamination: int) -> list[GateResult]:
    """One result for each head that the gate holds for; one alone for loss and contamination."""
    if gate.metric == "contamination":
        return [judge(gate, exact(contamination))]
    if gate.metric == "loss":
        return [_judged_loss(gate, results)]
    if gate.metric != "accuracy":
        return _judged_figures(gate, results)
    heads = [gate.head] if gate.head else HEADS
    found = [
        _judged_accuracy(gate, head, models, results)
        for head in heads
        if (models := answering(results, gate.suite, head, "model"))
    ]
    return found or [judge(gate, None, head=gate.head, missing="no model answered this suite")]


def _judged_figures(gate: Gate, results: Sequence[ModelResult]) -> list[GateResult]:
    """One result for each model that the figure was measured of; a head has its own name."""
    kinds = kinds_with(gate.metric)
    ours = [
        result
        for result in results
        if result.role == "model"
        and gate.head in (None, result.arm)
        and gate.suite in result.predictions
        and result.kind(gate.suite) in kinds
    ]
    found = []
    for models in by_model(ours):
        first = models[0]
        tables = [model.predictions[gate.suite] for model in models]
        measured = figure(first.kind(gate.suite), gate.metric, tables)
        head = next((head for head in HEADS if head == first.arm), None)
        if math.isnan(measured.low):
            found.append(judge(gate, None, head=head, missing="too few items for an interval"))
        else:
            found.append(judge(gate, measured, head=head))
    return found or [
        judge(gate, None, head=gate.head, missing="no model has this figure on this suite")
    ]


def _judged_loss(gate: Gate, results: Sequence[ModelResult]) -> GateResult:
    ours = [result for result in results if gate.head in (None, result.arm)]
    model = reading(ours, gate.suite, ("model",))
    if model is None:
        return judge(gate, None, head=gate.head, missing="no model read this suite")
    losses = losses_in_order(model, gate.suite)
    if gate.against == "none":
        return judge(gate, loss_interval(losses, np.random.default_rng(0)), head=gate.head)
    other = reading(results, gate.suite, _ROLES[gate.against])
    if other is None:
        return judge(gate, None, head=gate.head, missing=f"no {gate.against} read this suite")
    ratio = loss_ratio_interval(
        losses, losses_in_order(other, gate.suite), np.random.default_rng(0)
    )
    return judge(gate, ratio, head=gate.head)


def _judged_accuracy(
    gate: Gate, head: Head, models: Sequence[ModelResult], results: Sequence[ModelResult]
) -> GateResult:
    correct = correct_table(models, gate.suite)
    if gate.against == "none":
        return judge(gate, mean_interval(correct), head=head)
    if gate.against == "chance":
        # Chance is a property of these very items: a constant.
        level = chance([prediction.gold for prediction in models[0].predictions[gate.suite]])
        return judge(gate, shifted(mean_interval(correct), -level), head=head)
    for role in _ROLES[gate.against]:
        others = answering(results, gate.suite, head, role)
        if others:
            return _judged_difference(gate, head, models, others)
    return judge(
        gate, None, head=head, missing=f"no {gate.against} answered this suite in this form"
    )


def _judged_difference(
    gate: Gate, head: Head, models: Sequence[ModelResult], others: Sequence[ModelResult]
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
    return judge(gate, difference, head=head, missing=f"no seed in common with {gate.against}")
