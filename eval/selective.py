"""Answering only where it is sure: risk against coverage, thresholds, texts out of scope.

Legend: N items, K distinct confidences, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.auroc import auroc
from eval.scored import Bools, Floats, Scored
from eval.statistics import wilson

TARGETS = (0.9, 0.95)
_POINTS = 200


def risk_coverage(confidence_N: Floats, right_N: Bools) -> tuple[Floats, Floats]:
    """Coverage and risk at each threshold, from the surest items to all.

    Risk is the share of wrong answers among the items at or above the threshold (El-Yaniv and
    Wiener 2010); items of one confidence come in together.

    Returns:
        Coverage [K] and risk [K].
    """
    order_N = np.argsort(-confidence_N, kind="stable")
    sure_N, wrong_N = confidence_N[order_N], 1.0 - right_N[order_N]
    last_K = np.flatnonzero(np.append(np.diff(sure_N) != 0, True))
    taken_K = last_K + 1.0
    return taken_K / len(sure_N), np.cumsum(wrong_N)[last_K] / taken_K


def area(coverage_K: Floats, risk_K: Floats) -> float:
    """Area under the curve: the mean risk as items come in, from the surest (Geifman 2019)."""
    return float((np.diff(coverage_K, prepend=0.0) * risk_K).sum())


def mean_curve(tables: Sequence[Scored]) -> tuple[Floats, Floats]:
    """Coverage and risk of several seeds, each of which ranks its items by its own confidence.

    The risk at k items is the mean over seeds of the risk among the k surest of each. To rank
    the items of all seeds together would let the one that is surest of itself go first: what it
    says at 0.6 another says at 0.9. Where several items of a seed have one confidence, the
    share of wrong ones among them counts, as if they came in drawn order.

    Args:
        tables: one for each seed, of N items each.

    Returns:
        Coverage [N] = k / N for k = 1 to N, and risk [N].
    """
    items = len(tables[0])
    taken_N = np.arange(1.0, items + 1)
    risk_SN = []
    for table in tables:
        coverage_K, risk_K = risk_coverage(table.confidence, table.right)
        ends = np.append(0.0, coverage_K * items)
        wrong = np.append(0.0, risk_K * coverage_K * items)
        risk_SN.append(np.interp(taken_N, ends, wrong) / taken_N)
    return taken_N / items, np.mean(risk_SN, axis=0)


def threshold_for(precision: float, confidence_N: Floats, right_N: Bools) -> float | None:
    """The lowest confidence from which on so large a share of held-out answers is right.

    None where no threshold reaches it.
    """
    if not len(confidence_N):
        return None
    risk_K = risk_coverage(confidence_N, right_N)[1]
    fit_K = np.flatnonzero(1.0 - risk_K >= precision - 1e-12)
    if not len(fit_K):
        return None
    ordered_K = np.unique(confidence_N)[::-1]
    return float(ordered_K[fit_K[-1]])


def selective_of(
    tests: Sequence[Scored],
    validations: Sequence[Scored | None],
    outsiders: Sequence[Sequence[Scored]],
    targets: Sequence[float] = TARGETS,
) -> dict[str, Any]:
    """What a report tells of an arm that may stay silent.

    Args:
        tests: judged items, one table for each seed, at their temperature. An item out of scope
            has no right answer: to answer it is a mistake.
        validations: held-out items of the same seeds, where thresholds are chosen.
        outsiders: for each seed the items of other suites, of which those out of scope count.
        targets: precisions that are to be reached.

    Returns:
        ``risk_coverage`` (pairs, at most 200) and ``area``, of ``mean_curve``; ``targets``:
        ``precision``, and as means over seeds ``threshold``, ``coverage`` and
        ``precision_on_test`` of the test items, None where validation gives no threshold;
        ``low_on_test`` and ``high_on_test``: Wilson's interval of it, over as many items as a
        seed answers on average (the seeds answer the same ones); ``reached``: ``yes`` where the
        lower end keeps the target, ``no`` where the upper one does not or there is no threshold,
        else ``undecided``; ``items`` of validation; ``coverages`` and ``thresholds`` of each seed;
        ``abstained`` on validation, the first seed's share;
        ``validation``: of the first seed ``items``, ``confidence`` (mean) and ``labels`` (the share
        for which each is the likeliest): what serving compares its traffic with; else None;
        ``out_of_scope_auroc`` by evidence where the arm gives it, else by confidence;
        ``out_of_scope``: ``confidence``, ``evidence``, ``items``, or None without such items.
    """
    coverage_N, risk_N = mean_curve(tests)
    chosen = np.unique(np.linspace(0, len(coverage_N) - 1, _POINTS).round().astype(int))
    scope = _out_of_scope(tests, outsiders)
    best = None
    if scope is not None:
        best = scope["confidence"] if scope["evidence"] is None else scope["evidence"]
    return {
        "risk_coverage": np.stack([coverage_N, risk_N], axis=1)[chosen].tolist(),
        "area": area(coverage_N, risk_N),
        "targets": [_target(target, tests, validations) for target in targets],
        "validation": _validation(validations),
        "out_of_scope_auroc": best,
        "out_of_scope": scope,
    }


def _validation(validations: Sequence[Scored | None]) -> dict[str, Any] | None:
    first = validations[0] if validations else None
    if first is None or not len(first):
        return None
    counts = np.bincount(first.logs.argmax(axis=1), minlength=len(first.labels))
    return {
        "items": len(first),
        "confidence": float(first.confidence.mean()),
        "labels": dict(zip(first.labels, (counts / len(first)).tolist(), strict=True)),
    }


def _target(
    precision: float, tests: Sequence[Scored], validations: Sequence[Scored | None]
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "precision": precision, "threshold": None, "coverage": None, "precision_on_test": None,
        "low_on_test": None, "high_on_test": None, "reached": "no", "items": None,
        "coverages": None, "thresholds": None, "abstained": None,
    }  # fmt: skip
    held_out = [table for table in validations if table is not None]
    if len(held_out) != len(tests):
        return record
    record["items"] = len(held_out[0])
    found = [threshold_for(precision, table.confidence, table.right) for table in held_out]
    thresholds = [threshold for threshold in found if threshold is not None]
    if len(thresholds) != len(tests):
        return record
    taken = [t.confidence >= at for t, at in zip(tests, thresholds, strict=True)]
    right = [int(t.right[on].sum()) for t, on in zip(tests, taken, strict=True)]
    answered = sum(int(on.sum()) for on in taken)
    record["threshold"], record["thresholds"] = float(np.mean(thresholds)), thresholds
    record["abstained"] = float((held_out[0].confidence < thresholds[0]).mean())
    record["coverage"] = answered / sum(len(table) for table in tests)
    record["coverages"] = [float(on.mean()) for on in taken]
    if answered:
        share = sum(right) / answered
        low, high = wilson(share, answered / len(tests))
        record |= {"precision_on_test": share, "low_on_test": low, "high_on_test": high}
        record["reached"] = _verdict(precision, low, high)
    return record


def _verdict(precision: float, low: float, high: float) -> str:
    if low >= precision:
        return "yes"
    return "undecided" if high >= precision else "no"


def _out_of_scope(
    tests: Sequence[Scored], outsiders: Sequence[Sequence[Scored]]
) -> dict[str, Any] | None:
    """How well seeds tell items of no label from the others, as means over seeds."""
    found: dict[str, list[float]] = {"confidence": [], "evidence": []}
    items = 0
    for table, others in zip(tests, outsiders, strict=True):
        inside = table.in_scope
        outside = [one.where(one.golds < 0) for one in (table, *others)]
        items = sum(len(one) for one in outside)
        if not len(inside) or not items:
            continue
        sure = np.concatenate([one.confidence for one in outside])
        found["confidence"].append(auroc(inside.confidence, sure))
        known = [one.evidence for one in outside if one.evidence is not None]
        if inside.evidence is not None and len(known) == len(outside):
            found["evidence"].append(auroc(inside.evidence, np.concatenate(known)))
    if not found["confidence"]:
        return None
    means = {name: float(np.mean(values)) if values else None for name, values in found.items()}
    return {**means, "items": items}
