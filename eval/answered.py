"""A folder of answers: what `gradus eval` leaves and `gradus compare` reads.

predictions-SUITE@ARM.jsonl   the one record, a line an item
losses-SUITE.jsonl            of suites of plain text
metrics.json                  every figure, what was asked of whom, and what could not be asked
groups.json                   items that share a document or a phrase, by suite
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval import calibration, metrics
from eval.calibration import BINS
from eval.costs import Cost
from eval.record import (
    TEXT_WINDOW,
    Kind,
    Prediction,
    TextLoss,
    read_losses,
    read_predictions,
    write_losses,
    write_predictions,
)
from eval.scored import Scored, scored
from eval.statistics import loss_interval
from eval.task_figures import figures
from eval.tasks import told
from pipeline.core.errors import DataError, IntegrityError

METRICS = "metrics.json"
ENDPOINT = "endpoint"
_GROUPS = "groups.json"
# All that a folder which is none, or files of others in it, come to.
_NO_FOLDER = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Table:
    """What one arm made of one suite.

    Attributes:
        cost: by the clock alone where the model lies elsewhere.
        device: where the model lay; ``endpoint`` where nobody tells.
        groups: item to what it shares with others; the rest stand by themselves.
        labels: that were offered; None where the answers are open, or scores tell them.
        temperature: of the arm, fitted on rows that are not asked here; None: none is known.
        bins: of the calibration error.
    """

    suite: str
    arm: str
    kind: Kind
    predictions: Sequence[Prediction]
    cost: Cost | None = None
    device: str = ENDPOINT
    groups: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] | None = None
    temperature: float | None = None
    bins: int = BINS

    @property
    def clusters(self) -> list[str] | None:
        """Of each item, in the order of their ids; None where each stands by itself."""
        if not self.groups:
            return None
        ids = sorted(row.example_id for row in self.predictions)
        # No group is called so.
        return [self.groups.get(item, f"\0{item}") for item in ids]


@dataclass(frozen=True)
class Answered:
    """All that was asked of one model.

    Attributes:
        name: of the model, for people.
        target: what `gradus eval` was given: an address, or a model of the store.
        losses: text suite to its documents.
        missing: (suite, arm) to why it is not available.
        notes: what a reader should know, a line each.
        limit: items of each suite that were drawn at most; None: all.
        tells_limit: False of a folder that was written before its limit was kept.
    """

    name: str
    target: str
    tables: Sequence[Table] = ()
    losses: Mapping[str, Sequence[TextLoss]] = field(default_factory=dict)
    missing: Mapping[tuple[str, str], str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    limit: int | None = None
    tells_limit: bool = True


def write_answered(folder: Path, answered: Answered) -> dict[str, Any]:
    """Writes the records and their figures; the figures as JSON values."""
    folder.mkdir(parents=True, exist_ok=True)
    suites: dict[str, Any] = {}
    for table in answered.tables:
        write_predictions(
            folder / f"predictions-{table.suite}@{table.arm}.jsonl", table.predictions
        )
        suite = suites.setdefault(table.suite, {"kind": table.kind, "arms": {}})
        suite["arms"][table.arm] = arm_figures(table)
    for name, losses in answered.losses.items():
        write_losses(folder / f"losses-{name}.jsonl", losses)
        interval = loss_interval(losses, np.random.default_rng(0))
        suites[name] = {
            "kind": "text",
            "items": len(losses),
            "loss": told(interval),
            "bits_per_byte": metrics.bits_per_byte(losses),
            "window": TEXT_WINDOW,
        }
    for (name, arm), reason in answered.missing.items():
        suite = suites.setdefault(name, {"kind": "label", "arms": {}})
        suite["arms"][arm] = {"not_available": reason}
    tree = {
        "name": answered.name,
        "target": answered.target,
        "suites": suites,
        "notes": list(answered.notes),
        "limit": answered.limit,
    }
    text = json.dumps(tree, indent=1, ensure_ascii=False)
    (folder / METRICS).write_text(text + "\n", encoding="utf-8")
    groups = {table.suite: dict(table.groups) for table in answered.tables if table.groups}
    (folder / _GROUPS).write_text(json.dumps(groups, ensure_ascii=False), encoding="utf-8")
    return tree


def read_answered(folder: Path) -> Answered:
    """What ``write_answered`` wrote, costs apart.

    Raises:
        IntegrityError: it is no such folder, or parts of it are missing.
    """
    try:
        tree = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        suites = tree["suites"].items()
        known = folder / _GROUPS
        groups = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
        tables = [
            Table(
                name,
                arm,
                suite["kind"],
                read_predictions(folder / f"predictions-{name}@{arm}.jsonl"),
                groups=groups.get(name, {}),
                labels=row["labels"],
            )
            for name, suite in suites
            for arm, row in suite.get("arms", {}).items()
            if "not_available" not in row
        ]
        losses = {
            name: read_losses(folder / f"losses-{name}.jsonl")
            for name, suite in suites
            if suite["kind"] == "text"
        }
        return Answered(
            tree["name"], tree["target"], tables, losses, notes=tree["notes"],
            limit=tree.get("limit"), tells_limit="limit" in tree,
        )  # fmt: skip
    except _NO_FOLDER as error:
        raise IntegrityError(
            f"{folder}: no folder of `gradus eval` ({type(error).__name__}: {error}); "
            "evaluate the model again"
        ) from None


def arm_figures(table: Table) -> dict[str, Any]:
    """Every figure of one arm on one suite.

    Raises:
        DataError: it has no items.
    """
    rows = table.predictions
    if not rows:
        raise DataError(f"suite {table.suite}: has no items; give rows")
    latency_N = np.array([row.latency_s for row in rows])
    cost = table.cost
    return {
        "items": len(rows),
        "labels": sorted(rows[0].scores or table.labels or ()) or None,
        "figures": {
            name: told(f) for name, f in figures(table.kind, [rows], table.clusters).items()
        },
        "unparseable": metrics.unparseable(rows) if table.kind == "label" else None,
        "calibration": _calibration(table) if table.kind == "label" else None,
        "latency_is": "waiting" if table.device == ENDPOINT else "share of a batch",
        "latency_p50_s": float(np.quantile(latency_N, 0.5)),
        "latency_p95_s": float(np.quantile(latency_N, 0.95)),
        "items_per_s": cost.items / cost.wall_s if cost is not None and cost.wall_s else None,
        "prompt_tokens": sum(row.prompt_tokens for row in rows),
        "output_tokens": sum(row.output_tokens for row in rows),
        "device": table.device,
    }


def _calibration(table: Table) -> dict[str, Any] | None:
    """As a report has it: raw, and ``_after`` at the temperature where one is known."""
    found = scored(table.predictions)
    inside = None if found is None else found.in_scope
    if inside is None or not len(inside):
        return None
    raw = _sureness(inside, table.bins)
    warm = inside if table.temperature is None else inside.at(table.temperature)
    after = {
        f"{name}_after": None if table.temperature is None else value
        for name, value in _sureness(warm, table.bins).items()
    }
    return {"bins": table.bins, **raw, "temperature": table.temperature, **after}


def _sureness(table: Scored, bins: int) -> dict[str, float]:
    return {
        "ece": calibration.ece(table, bins),
        "brier": calibration.brier(table),
        "nll": calibration.nll(table),
    }
