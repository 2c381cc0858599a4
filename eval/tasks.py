"""What is measured of tasks, beside the accuracy of one label on the recipe's own rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.results import ModelResult, by_model, clusters_in_order, losses_in_order
from eval.statistics import Interval, loss_interval
from eval.task_figures import figures


def tasks_of(results: Sequence[ModelResult], told_elsewhere: str | None) -> list[dict[str, Any]]:
    """Figures of several labels, tags, numbers, preferences, and texts told by their label.

    Args:
        results: of one recipe.
        told_elsewhere: the suite whose items with one label the forms of answering tell.

    Returns:
        One record for each suite and each model, its seeds together: ``suite``, ``kind``,
        ``name``, ``level``, ``arm``, ``role``, ``seeds``, ``items`` and ``figures``: name to
        ``estimate``, ``low``, ``high`` (None without an interval) and ``covers``. The loss of
        texts told by their label is that of the first seed.
    """
    found = []
    for models in by_model(results):
        suites = {suite for model in models for suite in _suites(model, told_elsewhere)}
        for suite in sorted(suites):
            having = [model for model in models if suite in _suites(model, told_elsewhere)]
            first = having[0]
            measured = _measured(having, suite)
            found.append(
                {
                    "suite": suite,
                    "kind": first.kind(suite),
                    **{name: getattr(first, name) for name in ("name", "level", "arm", "role")},
                    "seeds": len(having),
                    "items": len(first.predictions.get(suite, ()) or first.losses[suite]),
                    "figures": {name: told(figure) for name, figure in measured.items()},
                }
            )
    return found


def _suites(model: ModelResult, told_elsewhere: str | None) -> list[str]:
    measured = {**model.predictions, **model.losses}
    return [
        suite
        for suite, kind in model.kinds.items()
        if suite in measured and not (kind == "label" and suite == told_elsewhere)
    ]


def _measured(models: Sequence[ModelResult], suite: str) -> Mapping[str, Interval]:
    first = models[0]
    if first.kind(suite) == "channel":
        losses = losses_in_order(first, suite)
        return {"channel_loss": loss_interval(losses, np.random.default_rng(0))}
    tables = [model.predictions[suite] for model in models]
    return figures(first.kind(suite), tables, clusters_in_order(first, suite))


def told(figure: Interval) -> dict[str, Any]:
    """A figure as JSON values; what is no number is None."""
    return {
        "estimate": _number(figure.estimate),
        "low": _number(figure.low),
        "high": _number(figure.high),
        "covers": figure.covers,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
