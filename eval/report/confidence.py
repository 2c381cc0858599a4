"""How far a confidence can be trusted, and what handing the unsure items over buys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.calibration import FEW
from eval.report.chart import Axis, Chart, Line, colour_of
from eval.report.figures import Figures
from eval.report.markup import Content, Markup, joined, number, section, table, tag
from eval.report.names import unique_names
from eval.report.plots import percent

Tree = Mapping[str, Any]

_SURE = Line("", ((0.0, 0.0), (1.0, 1.0)), colour="soft", dashed=True, marked=False)


def calibration_section(comparison: Tree, figures: Figures) -> Markup | None:
    """A reliability plot for each way that gives confidences, and their errors."""
    rows = [row for row in comparison.get("arms") or () if row["calibration"]]
    if not rows:
        return None
    names = unique_names(rows)
    plots: dict[bool, list[Markup]] = {True: [], False: []}
    for name, row in zip(names, rows, strict=True):
        if row["calibration"]["reliability"]:
            plot = figures.add(name[:1].upper() + name[1:], _reliability(name, row["calibration"]))
            plots[row["role"] == "model"].append(plot)
    beside = tag("summary", "Controls and references")
    below = tag("details", beside, tag("div", plots[False], class_="plots"))
    cells: list[list[Content]] = []
    for name, row in zip(names, rows, strict=True):
        told = row["calibration"]
        cells.append(
            [
                name, number(told["ece"]), number(told["ece_after"]), number(told["nll"]),
                number(told["nll_after"]), number(told["brier"]), temperature_cell(told),
                told["fitted_on"] or "–",
            ]
        )  # fmt: skip
    columns = ["way of answering", "error", "after", "surprise", "after", "Brier", "temperature"]
    bins = rows[0]["calibration"]["bins"]
    note = (
        "A well calibrated model that says 80 % is right in 80 of 100 such answers: its points lie "
        "on the dashes. Below them it is too sure of itself. Error: expected calibration error "
        f"over {bins} bins. Surprise: mean negative log-likelihood in nats. After: with the "
        "temperature, which was fitted on rows of validation. They are not judged here, but where "
        "they chose settings or the best update too, it comes out a little too low. One from "
        f"fewer than {FEW} rows is a rough guess, and one that is worse on the test does not help."
    )
    parts = [
        tag("p", note, class_="soft"),
        *([tag("div", plots[True], class_="plots")] if plots[True] else []),
        *([below] if plots[False] else []),
        table([*columns, "fitted on"], cells, left=1),
    ]
    return section("Confidence", joined(parts))


def temperature_cell(told: Tree) -> str:
    """A temperature, and why it is not to be trusted where it is not."""
    shown = number(told["temperature"])
    return f"{shown} ({'; '.join(told['doubts'])})" if told["doubts"] else shown


def _reliability(name: str, told: Tree) -> Chart:
    bins = [b for b in told["reliability"] if b["items"] and b["confidence"] is not None]
    most = max((b["items"] for b in bins), default=1)
    line = Line(
        "as it says",
        tuple((float(b["confidence"]), float(b["accuracy"])) for b in bins),
        tuple(
            f"said {b['confidence']:.0%}, right {b['accuracy']:.0%} of {b['items']:,}" for b in bins
        ),
    )
    # How many items each bin holds, low in the picture.
    load = Line(
        "",
        tuple((float(b["confidence"]), 0.0) for b in bins),
        colour="soft",
        bars=tuple((0.0, 0.22 * b["items"] / most) for b in bins),
        words=tuple(f"{b['items']:,} items" for b in bins),
        joined=False,
        marked=False,
    )
    words = "; ".join(f"{b['confidence']:.2f} said, {b['accuracy']:.2f} right" for b in bins)
    axes = (
        Axis("confidence (grey: how many items)", low=0, high=1, percent=True),
        Axis("share right", low=0, high=1, percent=True),
    )
    lines = [_SURE, load, line]
    if after := told.get("reliability_after"):
        known = [b for b in after if b["items"] and b["confidence"] is not None]
        points = tuple((float(b["confidence"]), float(b["accuracy"])) for b in known)
        # A line of one point would not be seen.
        alone = len(points) == 1
        lines.append(Line("after temperature", points, colour="c", marked=alone))
    return Chart(f"Reliability of {name}: {words}", *axes, tuple(lines), height=260)


def selective_section(comparison: Tree, figures: Figures) -> Markup | None:
    """Errors among the items that are answered, by how many are."""
    rows = [row for row in comparison.get("arms") or () if row.get("selective")]
    if not rows:
        return None
    names = unique_names(rows)
    lines = [
        Line(
            name,
            tuple((float(c), float(r)) for c, r in row["selective"]["risk_coverage"]),
            tuple(
                f"{name}: answers {c:.0%}, {r:.1%} of them wrong"
                for c, r in row["selective"]["risk_coverage"]
            ),
            colour_of(index),
            dashed=row["role"] == "reference",
            marked=False,
        )
        for index, (name, row) in enumerate(zip(names, rows, strict=True))
    ]
    ends = "; ".join(f"{line.name} {line.points[-1][1]:.3f}" for line in lines if line.points)
    chart = Chart(
        f"Wrong answers by share answered; where all are answered: {ends}",
        Axis("share of items answered, the surest first", low=0, high=1, percent=True),
        Axis("wrong among those answered", low=0, percent=True),
        tuple(line for line in lines if line.points),
        width=720,
        height=340,
    )
    note = (
        "Where a model may pass its unsure items on to a person, it answers fewer and errs less. "
        "The surest items come first, by the confidence after the temperature. "
    )
    if any(row["seeds"] > 1 for row in rows):
        note += "Each seed ranks the items by its own; the curve is the mean of theirs. "
    hint = tag("span", "Click a name below the plot to hide its line.", class_="screen")
    plot = tag("div", figures.add("", chart), class_="wide")
    parts = [tag("p", note, hint, class_="soft"), plot, *_targets(names, rows)]
    return section("Answer or pass on", joined(parts))


def _targets(names: list[str], rows: list[Tree]) -> list[Markup]:
    """What is left to answer where so much of it has to be right."""
    asked = sorted({t["precision"] for row in rows for t in row["selective"]["targets"]})
    cells: list[list[Content]] = []
    for name, row in zip(names, rows, strict=True):
        told = row["selective"]
        found = {target["precision"]: target for target in told["targets"]}
        cells.append([name, number(told["area"]), number(told["out_of_scope_auroc"])])
        for precision in asked:
            cells[-1] += _target(found.get(precision))
    columns = ["way of answering", "area", "out of scope"]
    for precision in asked:
        columns += [f"answers, {precision:.0%} right", "from", "right on the test"]
    note = (
        "Area: the mean of the curve, lower is better. Out of scope: how well confidence tells "
        "items that fit no label from those that do (AUROC: 0.5 is chance, 1 is perfect; a dash: "
        "there were no such items). Answers: the share of the items above the confidence beside "
        f"it, from which on so many answers are right{_chosen_on(rows)}. Right on the test: the "
        "share of right ones among the answers there, with its 95 % interval; a target is reached "
        "where the lower end reaches it, and undecided where the upper end alone does."
    )
    if any(row["seeds"] > 1 for row in rows):
        note += (
            " Each seed has a threshold of its own: told are the means, and in brackets the least "
            "and the most that a seed answers, so that this need not lie on the mean curve."
        )
    return [table(columns, cells, left=1), tag("p", note, class_="soft")]


def _chosen_on(rows: list[Tree]) -> str:
    """Where thresholds come from."""
    counts = sorted({t["items"] for row in rows for t in row["selective"]["targets"] if t["items"]})
    if not counts:
        return ""
    shown = f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
    few = ": few, so that the test items may tell otherwise" if counts[0] < FEW else ""
    return f" on {shown} rows of validation{few}"


def _target(target: Tree | None) -> list[Content]:
    if target is None:
        return ["–", "–", "–"]
    if target["precision_on_test"] is None:
        return ["not reached", "–", "–"]
    ends = f"{percent(target['low_on_test'])} to {percent(target['high_on_test'])}"
    right = f"{percent(target['precision_on_test'])} ({ends})"
    if target["reached"] == "no":
        return ["not reached", "–", right]
    shares = target["coverages"]
    ends = f" ({percent(min(shares))} to {percent(max(shares))})" if len(shares) > 1 else ""
    answers = percent(target["coverage"]) + ends
    if target["reached"] == "undecided":
        answers += ", undecided"
    return [answers, number(target["threshold"]), right]
