"""The risk page: each line a measurement, or that there is none and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.report.markup import Content, Markup, section, table, tag

Tree = Mapping[str, Any]


def risks_section(comparison: Tree) -> Markup | None:
    """One table for each model."""
    parts = []
    for told in comparison.get("risks") or ():
        rows: list[list[Content]] = []
        topic = None
        for line in told["lines"]:
            name = "" if line["topic"] == topic else line["topic"]
            topic = line["topic"]
            rows.append([name, *_cells(line)])
        measured = sum(bool(line["measured"]) for line in told["lines"])
        caption = f"{told['name']}: {measured} of {len(told['lines'])} lines measured"
        parts.append(table(["risk", "what was asked", "found"], rows, 3, caption))
    return section("Risks", tag("div", parts, class_="risks")) if parts else None


def _cells(line: Tree) -> list[Content]:
    how = line.get("how") if line["measured"] else line["why"]
    asked = tag("div", line["what"], tag("div", how, class_="soft") if how else None, class_="wide")
    if not line["measured"]:
        return [asked, tag("i", "not measured")]
    return [asked, tag("b", line["shown"])]
