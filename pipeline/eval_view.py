"""What `gradus eval` and `gradus compare` print."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.core.terminal import visible

_MAIN: Mapping[str, str] = {
    "label": "accuracy",
    "labels": "accuracy",
    "tags": "entity_f1",
    "value": "mae",
    "preference": "preference_accuracy",
}
"""The one figure of a kind that stands in the table; metrics.json holds all."""


def print_answered(tree: Mapping[str, Any], folder: str) -> None:
    """Figures of every suite in every arm, what is not available and why, and where it all lies."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("suite")
    table.add_column("arm")
    arms = [row for about in tree["suites"].values() for row in about.get("arms", {}).values()]
    waited = any(row.get("latency_is") == "waiting" for row in arms)
    names = (
        "items", "figure", "value", "macro F1", "unparseable", "ECE", "ECE at temperature",
        "waiting p50 s" if waited else "batch share p50 s", "p95 s", "items/s", "tokens in, out",
    )  # fmt: skip
    for name in names:
        table.add_column(name, justify="right")
    missing = []
    for suite, about in tree["suites"].items():
        for arm, row in about.get("arms", {}).items():
            if "not_available" in row:
                missing.append(f"{suite}, {arm}: not available: {row['not_available']}")
            else:
                table.add_row(visible(suite), arm, *_cells(about["kind"], row))
        if about["kind"] == "text":
            loss = _figure(about["loss"])
            table.add_row(visible(suite), "text", str(about["items"]), "loss", loss)
    if table.row_count:
        console.print(table)
    if not waited and any("latency_is" in row for row in arms):
        print(
            "batch share: seconds of a batch over its items; nobody waits so short for one answer"
        )
    for line in (*missing, *tree["notes"]):
        print(visible(line))
    print(f"answers and figures: {folder}")


def _cells(kind: str, row: Mapping[str, Any]) -> list[Text | str]:
    main = _MAIN[kind]
    calibration = row["calibration"]
    speed = row["items_per_s"]
    told = row["prompt_tokens"] or row["output_tokens"]
    return [
        f"{row['items']:,}",
        main.replace("_", " "),
        _figure(row["figures"][main]),
        _share(row["figures"].get("macro_f1", {}).get("estimate")),
        _share(row["unparseable"]),
        _share(None if calibration is None else calibration["ece"]),
        _share(None if calibration is None else calibration["ece_after"]),
        f"{row['latency_p50_s']:.3f}",
        f"{row['latency_p95_s']:.3f}",
        "" if speed is None else f"{speed:,.1f}",
        f"{row['prompt_tokens']:,}, {row['output_tokens']:,}" if told else "not told",
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _figure(figure: Mapping[str, Any]) -> Text | str:
    # Brackets are markup to rich.
    if figure["low"] is None:
        return _share(figure["estimate"])
    return Text(f"{figure['estimate']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")
