"""How many rows each form needs, and what wrong labels cost it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.chart import Axis, Chart, Line, colour_of
from eval.report.figures import Figures
from eval.report.markup import Content, Markup, interval, joined, number, section, table, tag
from pipeline.core.arms import arm_name

Tree = Mapping[str, Any]


def learning_section(comparison: Tree, figures: Figures) -> Markup | None:
    """Accuracy by rows, and by share of flipped labels."""
    told = comparison.get("learning_curve")
    if not told or not told["points"]:
        return None
    points = [p for p in told["points"] if p["accuracy"]["estimate"] is not None]
    clean = [p for p in points if not p["flipped"]]
    plots = [_by_rows(clean, figures), _by_flips(points, figures)]
    drawn = [plot for plot in plots if plot is not None]
    parts = [tag("ul", [tag("li", line) for line in told["claims"]], class_="said")]
    parts += [tag("div", drawn, class_="plots")] if drawn else []
    cells: list[list[Content]] = [
        [
            arm_name(p["arm"]), p["form"], p["rows"], f"{p['share']:.0%}", f"{p['flipped']:.0%}",
            p["seeds"], number(p["accuracy"]["estimate"]),
            interval(p["accuracy"]["low"], p["accuracy"]["high"]),
        ]
        for p in told["points"]
    ]  # fmt: skip
    columns = ["way of answering", "form", "rows", "share", "labels flipped", "seeds", "accuracy"]
    every = table([*columns, "95 % interval"], cells, left=2)
    parts.append(tag("details", tag("summary", "All points"), every))
    return section("Rows it takes", joined(parts))


def _arms(points: Sequence[Tree]) -> list[str]:
    return list(dict.fromkeys(point["arm"] for point in points))


def _by_rows(points: Sequence[Tree], figures: Figures) -> Markup | None:
    if len({point["rows"] for point in points}) < 2:
        return None
    lines = []
    for index, arm in enumerate(_arms(points)):
        mine = sorted((p for p in points if p["arm"] == arm), key=lambda p: p["rows"])
        lines.append(_line(arm, colour_of(index), [(float(p["rows"]), p) for p in mine], "rows"))
    x = Axis("training rows", log=True)
    chart = Chart(_told(lines, "rows"), x, Axis("accuracy", percent=True), tuple(lines), height=320)
    return figures.add("By number of rows", chart, ["Bands: 95 % intervals."])


def _by_flips(points: Sequence[Tree], figures: Figures) -> Markup | None:
    """At the largest number of rows that was tried with flipped labels."""
    flipped = [point["rows"] for point in points if point["flipped"]]
    if not flipped:
        return None
    rows = max(flipped)
    lines = []
    for index, arm in enumerate(_arms(points)):
        mine = [p for p in points if p["arm"] == arm and p["rows"] == rows]
        mine.sort(key=lambda p: p["flipped"])
        pairs = [(float(p["flipped"]), p) for p in mine]
        if len(pairs) > 1:
            lines.append(_line(arm, colour_of(index), pairs, "of the labels flipped"))
    if not lines:
        return None
    x = Axis("share of labels flipped", percent=True)
    words = _told(lines, "of the labels flipped")
    chart = Chart(words, x, Axis("accuracy", percent=True), tuple(lines), height=320)
    return figures.add("By wrong labels", chart, [f"All with {rows:,} rows."])


def _line(arm: str, colour: str, pairs: Sequence[tuple[float, Tree]], unit: str) -> Line:
    name = arm_name(arm)
    points, words = [], []
    band: list[tuple[float, float]] = []
    for x, point in pairs:
        figure = point["accuracy"]
        middle = float(figure["estimate"])
        points.append((x, middle))
        low, high = (middle if figure[end] is None else figure[end] for end in ("low", "high"))
        band.append((low, high))
        amount = f"{x:,.0f}" if unit == "rows" else f"{x:.0%}"
        ends = interval(figure["low"], figure["high"])
        words.append(f"{name}: {middle:.3f} {ends} with {amount} {unit}")
    return Line(name, tuple(points), tuple(words), colour, band=tuple(band))


def _told(lines: Sequence[Line], unit: str) -> str:
    return (
        "; ".join(
            f"{line.name} {line.points[0][1]:.3f} to {line.points[-1][1]:.3f}" for line in lines
        )
        + f", by {unit}"
    )
