"""A comparison as tables on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.core.arms import arm_name

# Of gates that failed, in the line that a run ends with.
_MOST_TOLD = 3


def print_comparison(tree: Mapping[str, Any]) -> None:
    """Levels, forms, ways of answering and other tasks, each where it was measured."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    measured = {k: v for k, v in tree["levels"].items() if v.get("general_loss") is not None
                or v.get("domain_loss") is not None}  # fmt: skip
    if measured:
        table = Table("level", "domain loss", "general loss", box=None, pad_edge=False)
        for level, values in measured.items():
            table.add_row(level, _figure(values["domain_loss"]), _figure(values["general_loss"]))
        console.print(table)
    heads = {name: head for name, head in tree["heads"].items() if head}
    if heads:
        table = Table("head", "with L1", "without L1", "difference", box=None, pad_edge=False)
        for name, head in heads.items():
            table.add_row(
                name,
                _interval(head.get("with_l1"), "accuracy"),
                _interval(head.get("without_l1"), "accuracy"),
                _interval(head.get("difference"), "estimate", sign="+"),
            )
        console.print(table)
        print(f"chance {_figure(tree['chance'])}")
    if tree["arms"]:
        console.print(_arms_table(tree["arms"]))
    if tree["tasks"]:
        console.print(_tasks_table(tree["tasks"]))


def _arms_table(arms: Sequence[Mapping[str, Any]]) -> Table:
    """Every way of answering, the recipe's models first, the rungs that nobody trained last."""
    table = Table(box=None, pad_edge=False)
    table.add_column("answered by", no_wrap=True)
    table.add_column("model")
    for name in ("accuracy", "macro F1", "no label", "ECE", "items/s", "s per 1,000"):
        table.add_column(name, justify="right")
    for row in arms:
        if row["role"] == "control":
            # What L1 brought stands in the table of heads.
            continue
        calibration, cost = row["calibration"] or {}, row["cost"] or {}
        table.add_row(
            arm_name(row["arm"]),
            "" if row["name"] == row["arm"] else row["name"],
            Text(_interval(row["accuracy"], "estimate")),
            _figure(row["macro_f1"]),
            "" if row["unparseable"] is None else f"{row['unparseable']:.1%}",
            _short(calibration.get("ece"), 3),
            _short(cost.get("items_per_s"), 0),
            _short(cost.get("compute_s_per_1000"), 2),
        )
    return table


def _short(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _tasks_table(tasks: Sequence[Mapping[str, Any]]) -> Table:
    """Figures of several labels, tags, numbers, preferences, and texts told by their label."""
    table = Table("suite", "model", "role", "figure", "", "95 % interval", box=None, pad_edge=False)
    for task in tasks:
        for name, figure in task["figures"].items():
            known = figure["low"] is not None and figure["high"] is not None
            ends = f"[{figure['low']:.3f}, {figure['high']:.3f}]" if known else figure["covers"]
            words = (task["suite"], task["name"], task["role"], name.replace("_", " "))
            # Brackets are markup to rich.
            table.add_row(*words, _figure(figure["estimate"]), Text(ends))
    return table


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _interval(value: Mapping[str, Any] | None, key: str, sign: str = "") -> str:
    if not value:
        return "not measured"
    return f"{value[key]:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


def promise(gate: Mapping[str, Any]) -> str:
    """A gate's figure and promise; its text ends with its status, which stands before it here."""
    text = str(gate["text"]).removesuffix(f": {gate['status']}")
    return f"{gate['model']}: {text}" if "model" in gate else text


def broken_words(gates: Sequence[Mapping[str, Any]]) -> str:
    """The gates that did not pass in one line: what failed first, then what is undecided."""
    broken = [g for status in ("fail", "undecided") for g in gates if g["status"] == status]
    counts = {s: sum(g["status"] == s for g in broken) for s in ("fail", "undecided")}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    shown = broken[: max(1, min(counts["fail"], _MOST_TOLD))]
    lines = [f"{gate['status']}: {promise(gate)}" for gate in shown]
    lines += [f"and {left} more"] if (left := len(broken) - len(shown)) else []
    return f"{len(broken)} of {len(gates)} gates did not pass ({told}): {'; '.join(lines)}"
