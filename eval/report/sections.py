"""Sections on levels, forms, gates and models: the figures that every comparison has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.record import TEXT_WINDOW
from eval.report.markup import (
    Content,
    Markup,
    arms_of,
    chip,
    interval,
    joined,
    number,
    section,
    table,
    tag,
)
from eval.report.plots import accuracy_plot, loss_plot
from eval.report.tasks import task_tiles, tasks_table

_SHORT = {
    "macro_f1": "macro F1", "matthews": "Matthews", "unparseable": "no label", "ece": "ECE",
    "brier": "Brier", "nll": "NLL",
}  # fmt: skip


def tiles(comparison: Mapping[str, Any]) -> Markup | None:
    tiles = []
    for head, figures in comparison["heads"].items():
        reached = figures["with_l1"] or figures["without_l1"]
        ends = interval(reached["low"], reached["high"])
        tiles.append((f"{reached['accuracy']:.3f}", f"accuracy, {head} form {ends}"))
    tiles += task_tiles(comparison["tasks"])
    for kind in ("domain", "general"):
        losses = {
            level: figures[f"{kind}_loss"]
            for level, figures in comparison["levels"].items()
            if figures[f"{kind}_loss"] is not None
        }
        if losses:
            first, last = next(iter(losses)), list(losses)[-1]
            value = f"{losses[first]:.2f} → {losses[last]:.2f}"
            shown = value if first != last else f"{losses[first]:.2f}"
            where = f"{first} to {last}" if first != last else first
            tiles.append((shown, f"loss on {kind} text, {where}"))
    if not tiles:
        return None
    return tag(
        "div",
        [tag("div", tag("b", value), tag("span", name), class_="tile") for value, name in tiles],
        class_="tiles",
    )


def conclusions(comparison: Mapping[str, Any]) -> Markup | None:
    if not comparison["sentences"]:
        return None
    said = tag("ul", [tag("li", line) for line in comparison["sentences"]], class_="said")
    return section("What was found", said)


def plots(comparison: Mapping[str, Any]) -> Markup | None:
    figures = []
    losses = loss_plot(comparison["levels"])
    if losses is not None:
        note = tag("figcaption", "Nats for each token, lower is better. Bars: 95 % over documents.")
        figures.append(tag("figure", tag("h3", "Loss by level"), losses, note))
    # The table of ways has a plot of its own.
    told = {} if comparison.get("arms") else comparison["heads"]
    accuracies = accuracy_plot(told, comparison["chance"])
    if accuracies is not None:
        note = tag(
            "figcaption", "Higher is better. Bars: 95 % intervals. Dashes: the commonest class."
        )
        figures.append(tag("figure", tag("h3", "Accuracy on the task"), accuracies, note))
    if not figures:
        return None
    return section("Levels and forms", tag("div", figures, class_="plots"))


def gates(comparison: Mapping[str, Any]) -> Markup | None:
    if not comparison["gates"]:
        return None
    rows: list[list[Content]] = [
        [chip(gate["status"]), gate["text"].removesuffix(f": {gate['status']}")]
        for gate in comparison["gates"]
    ]
    return section("Gates", table(["status", "promise and figure"], rows, left=2))


def heads(comparison: Mapping[str, Any]) -> Markup | None:
    rows: list[list[Content]] = []
    for head, figures in comparison["heads"].items():
        for name, row, _ in arms_of(figures):
            ends = interval(row["low"], row["high"])
            rows.append([head, name, number(row["accuracy"]), ends, row["seeds"]])
        if (row := figures["difference"]) is not None:
            ends = interval(row["low"], row["high"], sign=True)
            shown = number(row["estimate"], sign=True)
            rows.append([head, "difference", shown, ends, row["seeds"]])
    if not rows:
        return None
    columns = ["form", "", "accuracy", "95 % interval", "seeds"]
    # Where every way has its own row, what this one adds is the difference.
    name = "With L1 and without" if comparison.get("arms") else "Forms of answering"
    return section(name, table(columns, rows, left=2))


def tasks(comparison: Mapping[str, Any]) -> Markup | None:
    found = tasks_table(comparison["tasks"])
    return None if found is None else section("Tasks", found)


def levels(comparison: Mapping[str, Any]) -> Markup | None:
    rows: list[list[Content]] = []
    for level, figures in comparison["levels"].items():
        for kind in ("domain", "general"):
            if figures[f"{kind}_loss"] is not None:
                low, high = figures[f"{kind}_interval"]
                bits = number(figures[f"{kind}_bits_per_byte"])
                loss = number(figures[f"{kind}_loss"])
                rows.append([level, f"{kind} text", loss, interval(low, high), bits])
    if not rows:
        return None
    columns = ["level", "text", "loss (nats/token)", "95 % interval", "bits/byte"]
    note = (
        f"Texts are read in windows of at most {TEXT_WINDOW} tokens, whatever a model's context; "
        "each further window repeats half of the one before."
    )
    return section("Text", joined([table(columns, rows, left=2), tag("p", note, class_="soft")]))


def clean(comparison: Mapping[str, Any]) -> Markup | None:
    """Figures with and without the items that training rows know."""
    rows: list[list[Content]] = []
    for row in comparison["clean"]:
        cells: list[Content] = [row[name] for name in ("suite", "figure", "name", "arm", "role")]
        for part in (row["all"], row["clean"]):
            told = part or {"items": 0, "estimate": None, "low": None, "high": None}
            ends = interval(told["low"], told["high"])
            cells += [told["items"], number(told["estimate"]), ends]
        rows.append(cells)
    if not rows:
        return None
    columns = ["suite", "figure", "model", "form", "role"]
    columns += ["all items", "with them", "95 % interval"]
    columns += ["clean items", "without them", "95 % interval"]
    return section("With and without items that training rows know", table(columns, rows, left=5))


def models(comparison: Mapping[str, Any]) -> Markup:
    figures = ["accuracy", "macro_f1", "matthews", "unparseable", "ece", "brier", "nll"]
    used = [
        name
        for name in [*figures, "domain_loss", "general_loss"]
        if any(model[name] is not None for model in comparison["models"])
    ]
    steps = list(dict.fromkeys(step for model in comparison["models"] for step in model["seconds"]))
    rows: list[list[Content]] = [
        [
            *(model[name] for name in ("name", "level", "arm", "role")),
            model["seed"],
            *(number(model[name]) for name in used),
            *(number(model["seconds"].get(step), 1) for step in steps),
        ]
        for model in comparison["models"]
    ]
    shown = [_SHORT.get(name, name.replace("_", " ")) for name in used]
    columns = ["model", "level", "form", "role", "seed", *shown, *(f"{s} (s)" for s in steps)]
    return section("All models", table(columns, rows, left=4))
