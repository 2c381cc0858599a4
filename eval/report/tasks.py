"""The part of the page on tasks beside the accuracy of one label on the recipe's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.markup import Content, Markup, interval, number, table
from eval.task_figures import MAIN

_NAMES = {
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "entity_f1": "entity F1",
    "token_accuracy": "token accuracy",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
    "pearson": "Pearson's correlation",
    "spearman": "Spearman's correlation",
    "preference_accuracy": "chosen preferred",
    "reward_accuracy": "chosen preferred",
    "preference_margin": "margin of the chosen (nats)",
    "channel_loss": "loss of the text given its label (nats/token)",
}


def figure_name(name: str, kind: str | None = None) -> str:
    """A figure as people call it, wherever it was measured; of a kind of task where that tells."""
    if (name, kind) == ("accuracy", "labels"):
        return "all labels right"
    return _NAMES.get(name, name.replace("_", " "))


def tasks_table(tasks: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Every figure of every such task."""
    rows: list[list[Content]] = []
    for task in tasks:
        words: list[Content] = [task[part] for part in ("suite", "name", "arm", "role")]
        for name, figure in task["figures"].items():
            ends = interval(figure["low"], figure["high"]) or figure["covers"]
            cells = [task["seeds"], task["items"], number(figure["estimate"]), ends]
            rows.append([*words, figure_name(name, task["kind"]), *cells])
            words = [""] * len(words)
    if not rows:
        return None
    columns = ["suite", "model", "form", "role", "figure", "seeds", "items", "", "95 % interval"]
    return table(columns, rows, left=5)


def task_tiles(tasks: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The main figure of each task of the recipe's own models, and what it is."""
    tiles = []
    for task in tasks:
        name = MAIN[task["kind"]]
        figure = task["figures"][name]
        if task["role"] == "model" and figure["estimate"] is not None:
            ends = interval(figure["low"], figure["high"])
            words = f"{figure_name(name, task['kind'])} on {task['suite']} {ends}"
            tiles.append((f"{figure['estimate']:.3f}", words))
    return tiles
