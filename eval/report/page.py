"""Writes a comparison as report.json and as one page that needs nothing beside itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.report.data import data_parts
from eval.report.markup import (
    Content,
    Markup,
    arms_of,
    chip,
    interval,
    joined,
    number,
    page,
    table,
    tag,
)
from eval.report.markup import (
    facts as shown_facts,
)
from eval.report.plots import accuracy_plot, loss_plot
from eval.report.tasks import task_tiles, tasks_table
from eval.report.training import training_part

_METHOD = (
    "Intervals are 95 %. With several seeds they cover seeds and items (crossed random effects, "
    "Cochran and Cox's weighting), with one seed items alone, for these weights (Wilson; Bonett "
    "and Price for differences). Losses are nats for each token, with a studentised bootstrap "
    "over documents; F1, errors and correlations have a percentile bootstrap over items. Control "
    "is the same training without L1. A gate passes only when its whole "
    "interval keeps the promise; what was not measured is undecided. Chance is the share of the "
    "commonest class."
)


def write_report(
    comparison_json: Mapping[str, Any], title: str, facts: Mapping[str, Any], out: Path
) -> None:
    """Writes ``report.json`` and ``report.html`` into the folder ``out``.

    The same input gives the same bytes.

    Args:
        comparison_json: what ``Comparison.to_json`` gave.
        title: heading of the page.
        facts: hardware, versions, seconds, plan, lineage: any JSON values, shown as they are.
        out: an existing folder.
    """
    record = {"title": title, "comparison": comparison_json, "facts": facts}
    text = json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False)
    (out / "report.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    (out / "report.html").write_text(
        report_page(comparison_json, title, facts), encoding="utf-8", newline="\n"
    )


def report_page(comparison: Mapping[str, Any], title: str, facts: Mapping[str, Any]) -> str:
    """The page as text."""
    data, other = data_parts(facts.get("data"))
    if data is not None:
        # What is drawn is not listed once more.
        facts = {**facts, "data": other}
    training = training_part(facts.get("training"))
    facts = {name: value for name, value in facts.items() if name != "training"}
    sections = [
        _header(comparison, title),
        _tiles(comparison),
        _conclusions(comparison),
        _plots(comparison),
        _gates(comparison),
        _heads(comparison),
        _tasks(comparison),
        _levels(comparison),
        _clean(comparison),
        _models(comparison),
        _classes(comparison),
        _section("Training", training) if training is not None else None,
        _section("Data", data) if data is not None else None,
        _facts(facts),
    ]
    return page(title, joined(section for section in sections if section is not None))


def _header(comparison: Mapping[str, Any], title: str) -> Markup:
    counts: dict[str, int] = {}
    for gate in comparison["gates"]:
        counts[gate["status"]] = counts.get(gate["status"], 0) + 1
    told = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    line = tag("p", chip(comparison["verdict"]), f" {_gate_words(len(comparison['gates']), told)}")
    return tag("header", tag("h1", title), line)


def _gate_words(gates: int, told: str) -> str:
    if not gates:
        return "no gates: nothing was promised"
    return f"{gates} {'gate' if gates == 1 else 'gates'}: {told}"


def _tiles(comparison: Mapping[str, Any]) -> Markup | None:
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


def _conclusions(comparison: Mapping[str, Any]) -> Markup | None:
    if not comparison["sentences"]:
        return None
    said = tag("ul", [tag("li", line) for line in comparison["sentences"]], class_="said")
    return _section("What was found", said)


def _plots(comparison: Mapping[str, Any]) -> Markup | None:
    figures = []
    losses = loss_plot(comparison["levels"])
    if losses is not None:
        note = tag("figcaption", "Nats for each token, lower is better. Bars: 95 % over documents.")
        figures.append(tag("figure", tag("h3", "Loss by level"), losses, note))
    accuracies = accuracy_plot(comparison["heads"], comparison["chance"])
    if accuracies is not None:
        note = tag(
            "figcaption", "Higher is better. Bars: 95 % intervals. Dashes: the commonest class."
        )
        figures.append(tag("figure", tag("h3", "Accuracy on the task"), accuracies, note))
    if not figures:
        return None
    return _section("At a glance", tag("div", figures, class_="plots"))


def _gates(comparison: Mapping[str, Any]) -> Markup | None:
    if not comparison["gates"]:
        return None
    rows: list[list[Content]] = [
        [chip(gate["status"]), gate["text"]] for gate in comparison["gates"]
    ]
    return _section("Gates", table(["status", "promise and figure"], rows, left=2))


def _heads(comparison: Mapping[str, Any]) -> Markup | None:
    rows: list[list[Content]] = []
    for head, figures in comparison["heads"].items():
        for name, row, _ in arms_of(figures):
            ends = interval(row["low"], row["high"])
            rows.append([head, name, number(row["accuracy"]), ends, row["seeds"]])
        if (row := figures["difference"]) is not None:
            ends = interval(row["low"], row["high"])
            rows.append([head, "difference", f"{row['estimate']:+.3f}", ends, row["seeds"]])
    if not rows:
        return None
    columns = ["form", "", "accuracy", "95 % interval", "seeds"]
    return _section("Forms of answering", table(columns, rows, left=2))


def _tasks(comparison: Mapping[str, Any]) -> Markup | None:
    found = tasks_table(comparison["tasks"])
    return None if found is None else _section("Tasks", found)


def _levels(comparison: Mapping[str, Any]) -> Markup | None:
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
    return _section("Text", table(columns, rows, left=2))


def _clean(comparison: Mapping[str, Any]) -> Markup | None:
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
    return _section("With and without items that training rows know", table(columns, rows, left=5))


def _models(comparison: Mapping[str, Any]) -> Markup:
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
    columns = ["model", "level", "form", "role", "seed", *used, *(f"{step} (s)" for step in steps)]
    return _section("All models", table([c.replace("_", " ") for c in columns], rows, left=4))


def _classes(comparison: Mapping[str, Any]) -> Markup | None:
    parts = []
    for head, figures in comparison["classes"].items():
        rows: list[list[Content]] = [
            [
                row["label"],
                *(number(row[name]) for name in ("precision", "recall", "f1", "support")),
            ]
            for row in figures["per_class"]
        ]
        mistakes: list[list[Content]] = [
            [row["gold"], row["label"] if row["label"] is not None else "(no label)", row["items"]]
            for row in figures["mistakes"]
        ]
        parts.append(
            tag(
                "details",
                tag("summary", f"{head} form: {figures['model']}, seed {figures['seed']}"),
                table(["gold", "answered", "items"], mistakes, 2, "Commonest mistakes"),
                table(["label", "precision", "recall", "F1", "items"], rows, 1, "Every label"),
            )
        )
    return _section("Label by label", joined(parts)) if parts else None


def _facts(facts: Mapping[str, Any]) -> Markup:
    blocks = [
        joined([tag("h3", str(name).replace("_", " ").capitalize()), shown_facts(value)])
        for name, value in facts.items()
        if value != {}
    ]
    method = joined([tag("h3", "Method"), tag("p", _METHOD, class_="soft")])
    return _section("How it was made", tag("div", [*blocks, method], class_="facts"))


def _section(name: str, content: Markup) -> Markup:
    return tag("section", tag("h2", name), content)
