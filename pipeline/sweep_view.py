"""What a person sees of a sweep: a line for each trial, a table and the best line for each arm."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.sweep_space import override

_MOST_ROWS = 20


def trial_line(arm: str, record: Mapping[str, Any], trials: int) -> str:
    """One trial in one line."""
    values = ", ".join(override(key, value) for key, value in record["values"].items())
    return f"{arm}: trial {record['number'] + 1} of {trials}: {_outcome(record)} ({values})"


def print_sweep(told: Mapping[str, Any]) -> None:
    """Every arm's trials, best first, and the line that runs the best."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    arms = told["arms"]
    names = ", ".join(arms)
    each = f" for each of {len(arms)} arms ({names}), over the same space" if len(arms) > 1 else ""
    print(f"{told['trials']} trials{each}; judged on validation, no model saw a test row")
    for name, arm in arms.items():
        table = Table(box=None, pad_edge=False, header_style="bold")
        short = _short(told["space"])
        for column in ("trial", arm["metric"] or "figure", *short, "seconds"):
            table.add_column(column, overflow="fold")
        for record in arm["trials"][:_MOST_ROWS]:
            values = [override("", record["values"][key])[1:] for key in told["space"]]
            cells = (str(record["number"] + 1), _outcome(record), *values)
            table.add_row(*cells, f"{record['seconds']:.1f}" if record["seconds"] else "found")
        print(f"\n{name}")
        console.print(table)
        if len(arm["trials"]) > _MOST_ROWS:
            print(f"and {len(arm['trials']) - _MOST_ROWS} more")
    print()
    for name, arm in arms.items():
        if arm["best"] is None:
            print(f"{name}: no trial came to a figure")
        else:
            print(f"{name}, {arm['metric']} {arm['best']['figure']:.4g}: {_run_line(arm)}")
    for note in _notes(told):
        print(f"- {note}")
    print(f"trials: {told['file']}")


def _notes(told: Mapping[str, Any]) -> list[str]:
    notes = []
    if told["control"]:
        notes.append(
            "a control is compared under its recipe's own settings: to compare, run both with "
            "one of these lines"
        )
    if not told["same_rows"]:
        notes.append(
            "trials were not all judged on the same validation rows, because the space changes "
            "which rows there are: their figures are not quite comparable; give data.validation "
            "a file of its own"
        )
    return notes


def _run_line(arm: Mapping[str, Any]) -> str:
    path = Path(arm["recipe"])
    shown = os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    words = ["gradus", "run", shown]
    for text in arm["set"]:
        words += ["--set", text]
    return shlex.join(words)


def _outcome(record: Mapping[str, Any]) -> str:
    if record["figure"] is None:
        return f"failed: {record['problem']}"
    return f"{record['figure']:.4g}"


def _short(keys: list[str]) -> list[str]:
    """The last words of dotted keys, where they still tell them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return [s if last.count(s) == 1 else key for s, key in zip(last, keys, strict=True)]
