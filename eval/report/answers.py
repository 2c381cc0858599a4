"""Ways of answering: how right, how dear, and which no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.chart import Axis, Chart, Line
from eval.report.figures import Figures
from eval.report.markup import (
    Content,
    Markup,
    interval,
    joined,
    number,
    section,
    table,
    tag,
)
from eval.report.names import significant, unique_names
from eval.report.plots import percent
from pipeline.core.arms import arm_name

Tree = Mapping[str, Any]

_MARGIN = "Recommended is the cheapest that is not worse than the best by {:g}."


_COST = (
    "What it costs. Batch share: seconds of a batch over its items, the median and the 95th "
    "percentile; nobody waits so short for one answer, and gradus eval URL measures that. Items/s: "
    "by the clock, with all that is done around the model. Compute and tokens: for 1,000 answers."
)


def arms_section(comparison: Tree, figures: Figures) -> Markup | None:
    """Every way of answering with its accuracy and cost."""
    rows = list(comparison.get("arms") or ())
    if not rows:
        return None
    plot = _accuracies(rows, comparison.get("chance"), figures)
    parts = [tag("div", plot, class_="wide")] if plot is not None else []
    parts += [_figures(rows), *_costs(rows), *map(_left_out, comparison.get("not_asked") or ())]
    return section("Ways of answering", joined(parts))


def _left_out(rung: Tree) -> Markup:
    """A rung that nobody named and that does not fit, with the reason."""
    return tag("p", f"Not asked: {arm_name(rung['arm'])}: {rung['why']}", class_="soft")


def _accuracies(rows: list[Tree], chance: float | None, figures: Figures) -> Markup | None:
    shown = [row for row in rows if row["accuracy"] and row["accuracy"]["estimate"] is not None]
    if not shown:
        return None
    # The best stands highest.
    shown.sort(key=lambda row: -row["accuracy"]["estimate"])
    names = unique_names(shown)
    lines = []
    for name, colour, roles in (
        ("trained here", "a", {"model"}), ("control, without L1", "b", {"control"}),
        ("reference", "soft", None),
    ):  # fmt: skip
        known = {"model", "control"}
        mine = [
            (place, row) for place, row in enumerate(shown)
            if (row["role"] in roles if roles else row["role"] not in known)
        ]  # fmt: skip
        if mine:
            lines.append(_dots(name, colour, mine, names))
    if chance is not None:
        ends = ((chance, -0.5), (chance, len(shown) - 0.5))
        lines.append(Line("commonest class", ends, colour="soft", dashed=True, marked=False))
    told = "; ".join(
        f"{name} {row['accuracy']['estimate']:.3f}" for name, row in zip(names, shown, strict=True)
    )
    chart = Chart(
        f"Accuracy: {told}",
        Axis("share of items answered right", low=0, high=1, percent=True),
        Axis("", names=tuple(names)),
        tuple(lines),
        width=720,
        height=70 + 30 * len(shown),
    )
    return figures.add("Accuracy, with 95 % intervals", chart)


def _dots(name: str, colour: str, rows: Sequence[tuple[int, Tree]], names: list[str]) -> Line:
    bars, points, words = [], [], []
    for place, row in rows:
        figure = row["accuracy"]
        middle = figure["estimate"]
        points.append((middle, float(place)))
        bars.append(
            tuple(middle if figure[end] is None else figure[end] for end in ("low", "high"))
        )
        words.append(f"{names[place]}: {middle:.3f} {interval(figure['low'], figure['high'])}")
    return Line(
        name, tuple(points), tuple(words), colour, bars=tuple(bars), across=True, joined=False
    )


def _figures(rows: list[Tree]) -> Markup:
    cells: list[list[Content]] = []
    for name, row in zip(unique_names(rows), rows, strict=True):
        figure = row["accuracy"] or {}
        silent = row["unparseable"]
        cells.append(
            [
                name, number(figure.get("estimate")),
                interval(figure.get("low"), figure.get("high")), number(row["macro_f1"]),
                number(row["matthews"]), "–" if silent is None else percent(silent),
                row["level"], row["seeds"], row["form"] or "–",
            ]
        )  # fmt: skip
    columns = ["way of answering", "accuracy", "95 % interval", "macro F1", "Matthews"]
    return table([*columns, "no label", "level", "seeds", "form"], cells)


def _costs(rows: list[Tree]) -> list[Markup]:
    named = zip(unique_names(rows), rows, strict=True)
    cells: list[list[Content]] = [
        [
            name, significant(cost["latency_p50_s"], 1e3), significant(cost["latency_p95_s"], 1e3),
            significant(cost["items_per_s"]), significant(cost["compute_s_per_1000"]),
            _count(cost["prompt_tokens_per_1000"]), _count(cost["output_tokens_per_1000"]),
            significant(cost["peak_bytes"], 1e-6), cost["device"] or "–",
        ]
        for name, row in named if (cost := row["cost"])
    ]  # fmt: skip
    if not cells:
        return []
    columns = ["way of answering", "batch share (ms)", "95th (ms)", "items/s"]
    columns += ["compute (s)", "tokens read", "written", "peak (MB)", "device"]
    return [table(columns, cells, caption=_COST)]


def frontier_section(comparison: Tree, figures: Figures) -> Markup | None:
    """Quality against cost, and the ways that no other beats in both."""
    told = comparison.get("recommendation") or {}
    every = list(told.get("frontier") or ())
    rows = [row for row in every if row["quality"] is not None and row["cost_s_per_1000"]]
    if not rows:
        return None
    names = dict(zip(map(id, every), unique_names(every), strict=True))
    best = [row for row in rows if row["on_frontier"]]
    rest = [row for row in rows if not row["on_frontier"]]
    best.sort(key=lambda row: row["cost_s_per_1000"])
    # The named ones last: no bar lies over their words.
    lines = [
        _prices("another is no dearer and no worse", rest, names),
        _prices("on the frontier: none is both cheaper and better", best, names, labelled=True),
    ]
    shown = "; ".join(
        f"{names[id(row)]} {row['quality']:.3f} for {significant(row['cost_s_per_1000'])} s"
        for row in rows
    )
    chart = Chart(
        f"Quality against cost: {shown}",
        Axis(f"{told.get('cost_is') or 'compute seconds'} for 1,000 items", log=True),
        Axis("accuracy", percent=True),
        tuple(line for line in lines if line.points),
        width=720,
        height=360,
    )
    margin = told.get("margin")
    notes = [] if margin is None else [_MARGIN.format(margin)]
    plot = figures.add("", chart, notes)
    parts = [tag("div", plot, class_="wide"), _every_price(every, names)]
    return section("Quality against cost", joined(parts))


def _every_price(rows: list[Tree], names: Mapping[int, str]) -> Markup:
    cells: list[list[Content]] = [
        [
            names[id(row)], number(row["quality"]), interval(row["low"], row["high"]),
            significant(row["cost_s_per_1000"]), "yes" if row["on_frontier"] else "",
        ]
        for row in sorted(rows, key=lambda row: -(row["quality"] or 0))
    ]  # fmt: skip
    columns = ["way of answering", "accuracy", "95 % interval", "for 1,000 (s)", "on the frontier"]
    return tag("details", tag("summary", "All figures"), table(columns, cells))


def _prices(name: str, rows: list[Tree], names: Mapping[int, str], labelled: bool = False) -> Line:
    points = tuple((float(row["cost_s_per_1000"]), float(row["quality"])) for row in rows)
    words = tuple(
        f"{names[id(row)]}: {row['quality']:.3f}, {significant(row['cost_s_per_1000'])} s for 1,000"
        for row in rows
    )
    bars = tuple(
        (row["quality"] if row["low"] is None else row["low"],
         row["quality"] if row["high"] is None else row["high"])
        for row in rows
    )  # fmt: skip
    labels = tuple(names[id(row)] for row in rows) if labelled else ()
    colour = "a" if labelled else "soft"
    return Line(name, points, words, colour, bars=bars, joined=labelled, labels=labels)


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
