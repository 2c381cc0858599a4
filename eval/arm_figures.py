"""The table of all ways of answering: how right, how sure, how dear.

Legend: S seeds, N items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np

from eval.calibration import Temperature, calibration_of
from eval.costs import Cost
from eval.results import ModelResult
from eval.scored import Scored, scored
from eval.selective import selective_of
from eval.task_figures import figure
from eval.tasks import told
from eval.ways import Way, about


def arm_rows(ways: Sequence[Way], bins: int, targets: Sequence[float]) -> list[dict[str, Any]]:
    """One record for each way, its seeds together.

    Args:
        bins: of the calibration error.
        targets: precisions for which a threshold is chosen.

    Returns:
        ``key``, ``arm``, ``form``, ``name``, ``level``, ``role``, ``seeds``, ``items``;
        ``accuracy``; means over seeds ``macro_f1``, ``matthews``, ``unparseable``;
        ``calibration`` and ``selective``, None without scores; ``cost``.
    """
    return [_row(way, bins, targets) for way in ways]


def _row(way: Way, bins: int, targets: Sequence[float]) -> dict[str, Any]:
    calibration, selective = _sureness(way, bins, targets)
    return {
        **about(way),
        "seeds": len(way.results),
        "items": way.correct.shape[1],
        "accuracy": told(way.accuracy),
        **_shares(way),
        "calibration": calibration,
        "selective": selective,
        "cost": cost_of(way),
    }


def _shares(way: Way) -> dict[str, float | None]:
    kind = way.first.kind(way.suite)
    if kind != "label":
        tables = [result.answers(way.suite) for result in way.results]
        macro = figure(kind, "macro_f1", tables).estimate
        return {"macro_f1": macro, "matthews": None, "unparseable": None}
    found = [result.label_figures(way.suite) for result in way.results]
    names = ("macro_f1", "matthews", "unparseable")
    return {name: float(np.mean([one[name] for one in found])) for name in names}


def _sureness(
    way: Way, bins: int, targets: Sequence[float]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Calibration, and selective prediction at the temperatures that it found."""
    if way.first.kind(way.suite) != "label":
        return None, None
    tests = [table for result in way.results if (table := result.scored(way.suite)) is not None]
    if len(tests) != len(way.results):
        return None, None
    held_out = [_validation(result) for result in way.results]
    calibration, fits = calibration_of(tests, held_out, bins)
    outsiders = [
        [_at(table, fit) for table in _other_suites(result, way.suite)]
        for result, fit in zip(way.results, fits, strict=True)
    ]
    selective = selective_of(
        [_at(table, fit) for table, fit in zip(tests, fits, strict=True)],
        [None if v is None else _at(v, fit) for v, fit in zip(held_out, fits, strict=True)],
        outsiders,
        targets,
    )
    return calibration, selective


def _validation(result: ModelResult) -> Scored | None:
    return scored(result.held_out.get("validation", ()))


def _at(table: Scored, fit: Temperature | None) -> Scored:
    return table if fit is None or fit.value == 1.0 else table.at(fit.value)


def _other_suites(result: ModelResult, suite: str) -> Iterator[Scored]:
    """Scores of items that may be out of scope: those of every other suite of one label."""
    for name in result.predictions:
        if name != suite and result.kind(name) == "label":
            table = result.scored(name)
            if table is not None and (table.golds < 0).any():
                yield table


def cost_of(way: Way) -> dict[str, Any]:
    """What answers cost, over all seeds.

    Returns:
        ``latency_p50_s`` and ``latency_p95_s`` (of an item of a batch its share of the batch),
        ``items_per_s``, ``prompt_tokens_per_1000``, ``output_tokens_per_1000``;
        ``compute_s_per_1000`` (of processors, or of the GPU), ``device`` and ``peak_bytes``,
        None where the evaluation did not tell them; ``latency_s_per_1000``.
    """
    answers = [p for result in way.results for p in result.answers(way.suite)]
    latency_N = np.array([p.latency_s for p in answers])
    per_1000 = 1000 / len(answers)
    cost = _spent([r.costs[way.suite] for r in way.results if way.suite in r.costs])
    seconds = float(latency_N.sum()) if cost is None else cost.wall_s
    items = len(answers) if cost is None else cost.items
    return {
        "latency_p50_s": float(np.quantile(latency_N, 0.5)),
        "latency_p95_s": float(np.quantile(latency_N, 0.95)),
        "latency_s_per_1000": float(latency_N.sum()) * per_1000,
        "items_per_s": items / seconds if seconds else None,
        "prompt_tokens_per_1000": sum(p.prompt_tokens for p in answers) * per_1000,
        "output_tokens_per_1000": sum(p.output_tokens for p in answers) * per_1000,
        "compute_s_per_1000": None if cost is None else cost.compute_s * 1000 / cost.items,
        "device": None if cost is None else cost.device,
        "peak_bytes": None if cost is None else cost.peak_bytes,
    }


def _spent(costs: Sequence[Cost]) -> Cost | None:
    """All seeds together; None where one is not known, or they ran on different devices."""
    known = [cost for cost in costs if cost.items]
    if not known or len({cost.device for cost in known}) > 1:
        return None
    return reduce(Cost.plus, known)
