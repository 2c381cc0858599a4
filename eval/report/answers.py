"""Ways of answering side by side: how right, how dear, how sure, and where they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.chart import Axis, Chart, Line
from eval.report.figures import Figures
from eval.report.markup import (
    Content,
    Markup,
    breakable,
    interval,
    joined,
    number,
    section,
    table,
    tag,
)
from eval.report.names import arm_name, significant, unique_names
from eval.report.plots import percent

Tree = Mapping[str, Any]

# Examples that are open from the start.
_FIRST = 6


def arms_section(comparison: Tree, figures: Figures) -> Markup | None:
    """Every way of answering with its accuracy and cost."""
    rows = list(comparison.get("arms") or ())
    if not rows:
        return None
    plot = _accuracies(rows, comparison.get("chance"), figures)
    parts = [tag("div", plot, class_="wide")] if plot is not None else []
    return section("Ways of answering", joined([*parts, _figures(rows), *_costs(rows)]))


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
    columns = ["way of answering", "median (ms)", "95th (ms)", "items/s", "compute (s)"]
    columns += ["tokens read", "written", "peak (MB)", "device"]
    caption = "What it costs: waiting for one answer; compute and tokens for 1,000 of them."
    return [table(columns, cells, caption=caption)]


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
    lines = [
        _prices("on the frontier: none is both cheaper and better", best, names, labelled=True),
        _prices("beaten by another in both", rest, names),
    ]
    told_words = "; ".join(
        f"{names[id(row)]} {row['quality']:.3f} for {significant(row['cost_s_per_1000'])} s"
        for row in rows
    )
    chart = Chart(
        f"Quality against cost: {told_words}",
        Axis("compute seconds for 1,000 items", log=True),
        Axis("accuracy", percent=True),
        tuple(line for line in lines if line.points),
        width=720,
        height=360,
    )
    note = (
        f"Recommended is the cheapest that is not worse than the best by {told['margin']:g}."
        if told.get("margin") is not None
        else ""
    )
    cells: list[list[Content]] = [
        [
            names[id(row)], number(row["quality"]), interval(row["low"], row["high"]),
            significant(row["cost_s_per_1000"]), "yes" if row["on_frontier"] else "",
        ]
        for row in sorted(every, key=lambda row: -(row["quality"] or 0))
    ]  # fmt: skip
    columns = ["way of answering", "accuracy", "95 % interval", "compute (s)", "on the frontier"]
    every_row = tag("details", tag("summary", "All figures"), table(columns, cells))
    plot = figures.add("", chart, [note] if note else [])
    return section("Quality against cost", joined([tag("div", plot, class_="wide"), every_row]))


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


def pairs_section(comparison: Tree) -> Markup | None:
    """Every two ways on the same items: what is shown, and what could have been."""
    pairs = comparison.get("pairs") or ()
    if not pairs:
        return None
    cells: list[list[Content]] = []
    for pair in pairs:
        told = pair["difference"] or {}
        spread = interval(told.get("low"), told.get("high"), sign=True)
        cells.append(
            [
                tag("div", pair["words"], class_="wide"), number(told.get("estimate"), sign=True),
                spread, _chance(pair["mcnemar_p"]), _chance(pair["holm_p"]),
                number(pair["smallest_difference"]), pair["seeds"],
            ]
        )  # fmt: skip
    columns = ["in words", "difference", "95 % interval", "McNemar p", "Holm p", "could show"]
    note = (
        "Each two were asked the same items. McNemar's p is for one pair alone, Holm's allows for "
        "all pairs of this table. Could show: the smallest difference that a test "
        "of this size would have found in four of five trials."
    )
    found = table([*columns, "seeds"], cells, left=1)
    return section("Compared in pairs", joined([found, tag("p", note, class_="soft")]))


def disagreements_section(comparison: Tree) -> Markup | None:
    """Items that the ways answer differently."""
    told = comparison.get("disagreements")
    if not told:
        return None
    lines = []
    if told["share"] is not None:
        lines.append(f"The ways gave different answers to {percent(told['share'])} of the items.")
    if (share := told.get("constrained_against_likelihood")) is not None:
        lines.append(
            f"Writing step by step and the likeliest whole label differ on {percent(share)}: "
            "the best next word does not always lead to the best label."
        )
    parts = [tag("p", " ".join(lines))] if lines else []
    if told["items"]:
        cards = [_item(item, told["arms"]) for item in told["items"]]
        parts.append(tag("div", cards[:_FIRST], class_="items"))
        if more := cards[_FIRST:]:
            words = tag("summary", f"{len(more)} more")
            parts.append(tag("details", words, tag("div", more, class_="items")))
    return section("Disagreements", joined(parts)) if parts else None


def _item(item: Tree, arms: Sequence[str]) -> Markup:
    """One text, its label, and each answer marked as right or wrong."""
    answers = []
    for arm in [*(a for a in arms if a in item["answers"])]:
        answer = item["answers"][arm]
        right = answer == item["gold"]
        sign = tag("i", "✓" if right else "✕", class_="right" if right else "wrong")
        said = answer if answer is not None else "(no label)"
        answers.append(tag("li", sign, tag("span", arm_name(arm)), tag("b", breakable(said))))
    gold = tag("p", "Right: ", tag("b", breakable(item["gold"])), class_="gold")
    return tag("article", tag("p", item["text"], class_="text"), gold, tag("ul", answers))


def gap_section(comparison: Tree) -> Markup | None:
    """Accuracy on rows that were trained on, against that on the test."""
    rows = [row for row in comparison.get("gap") or () if row["train"] is not None]
    if not rows:
        return None
    cells: list[list[Content]] = [
        [name, *(number(_plain(row[part])) for part in ("train", "test")),
         number(_plain(row["gap"]), sign=True)]
        for name, row in zip(unique_names(rows), rows, strict=True)
    ]  # fmt: skip
    columns = ["way of answering", "on training rows", "on the test", "gap"]
    note = "A large gap means that a model knows its rows by heart."
    found = joined([table(columns, cells, left=1), tag("p", note, class_="soft")])
    return section("Known by heart?", found)


def _plain(figure: Any) -> Any:
    return figure.get("estimate") if isinstance(figure, Mapping) else figure


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _chance(value: float | None) -> str:
    """A p-value: what is below 0.001 is said to be so."""
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
