"""Items of evaluation sets that training rows know, and the figures without them.

GPT-3 (Brown et al. 2020, appendix C) gives each score on all items and on the clean ones: where
the two differ by more than chance, the score is not to be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.results import ModelResult, by_model, clusters_in_order, losses_in_order
from eval.statistics import Interval, loss_interval
from eval.task_figures import MAIN, figure
from pipeline.core.errors import IntegrityError

CONTAMINATED = "contaminated.jsonl"


@dataclass(frozen=True)
class Known:
    """What is left of contamination after `prepare`: hits whose training row was not dropped.

    Attributes:
        rows: different training rows, of the recipe and its ancestors, that know an item.
        items: suite > ids of the items that are known.
    """

    rows: int = 0
    items: Mapping[str, frozenset[str]] = field(default_factory=dict)


def read_known(datasets: Iterable[Path]) -> Known:
    """Reads the hits of prepared Datasets; rows that several of them share count once.

    Raises:
        IntegrityError: a Dataset has no list of hits, or a line of it is none.
    """
    rows: set[tuple[str, str, str]] = set()
    items: dict[str, set[str]] = {}
    for folder in datasets:
        path = folder / CONTAMINATED
        if not path.is_file():
            raise IntegrityError(f"{path}: is missing; prepare the data again")
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    hit = json.loads(line)
                    row = (str(hit["where"]), str(hit["split"]), str(hit["row"]))
                    suite, item, dropped = str(hit["suite"]), str(hit["item"]), hit["dropped"]
                except (ValueError, KeyError, TypeError) as error:
                    raise IntegrityError(
                        f"{path}:{number}: is no hit ({error}); prepare the data again"
                    ) from error
                if not dropped:
                    rows.add(row)
                    items.setdefault(suite, set()).add(item)
    return Known(len(rows), {suite: frozenset(found) for suite, found in sorted(items.items())})


def with_and_without(results: Sequence[ModelResult], known: Known) -> list[dict[str, Any]]:
    """Each figure on all items and on those that no training row knows.

    Returns:
        One record for each suite with known items and each model, its seeds together: ``suite``,
        ``figure`` (loss, or what stands for the kind of task: accuracy, mae), ``name``,
        ``level``, ``arm``, ``role``, ``seeds``, ``known`` (items), and ``all`` and ``clean``
        with ``items``, ``estimate``, ``low``, ``high``; ``clean`` is None where no item is left.
        A loss is that of the first seed.
    """
    found = []
    for suite, items in known.items.items():
        for models in by_model(results):
            main = MAIN[models[0].kind(suite)]
            for name in (main, "loss"):
                having = [model for model in models if suite in _rows(model, name)]
                ids = {row.example_id for model in having for row in _rows(model, name)[suite]}
                if not ids & items:
                    continue
                first, having = having[0], having[:1] if name == "loss" else having
                clean = [_without(model, suite, items) for model in having]
                found.append(
                    {
                        "suite": suite,
                        "figure": name,
                        **{part: getattr(first, part) for part in ("name", "level", "arm", "role")},
                        "seeds": len(having),
                        "known": len(ids & items),
                        "all": _measured(having, suite, name, len(ids)),
                        "clean": _measured(clean, suite, name, len(ids - items)),
                    }
                )
    return found


def _rows(model: ModelResult, name: str) -> Mapping[str, Sequence[Any]]:
    return model.losses if name == "loss" else model.predictions


def _without(model: ModelResult, suite: str, items: frozenset[str]) -> ModelResult:
    answers, losses = model.predictions.get(suite, ()), model.losses.get(suite, ())
    return replace(
        model,
        predictions={suite: [row for row in answers if row.example_id not in items]},
        losses={suite: [row for row in losses if row.example_id not in items]},
    )


def _measured(
    models: Sequence[ModelResult], suite: str, name: str, items: int
) -> dict[str, Any] | None:
    if not items:
        return None
    interval: Interval
    if name != "loss":
        tables = [model.predictions[suite] for model in models]
        clusters = clusters_in_order(models[0], suite)
        interval = figure(models[0].kind(suite), name, tables, clusters)
    else:
        losses = losses_in_order(models[0], suite)
        if not sum(loss.tokens for loss in losses):
            return None
        interval = loss_interval(losses, np.random.default_rng(0))
    # JSON knows no infinity: an end that one document cannot tell is None.
    ends = [float(end) if np.isfinite(end) else None for end in (interval.low, interval.high)]
    return {"items": items, "estimate": interval.estimate, "low": ends[0], "high": ends[1]}
