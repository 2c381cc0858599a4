"""The page's first screen: what was decided, what to deploy, and the ladder as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eval.report.markup import Markup, chip, interval, number, tag
from eval.report.names import row_name, times

Tree = Mapping[str, Any]

_BARE = ("zero_shot", "few_shot")
_STEPS = {"L0": "general base", "L1": "industry", "L2": "this task"}


def header(comparison: Tree, title: str) -> Markup:
    """The title, and whether the promises were kept."""
    counts: dict[str, int] = {}
    for gate in comparison["gates"]:
        counts[gate["status"]] = counts.get(gate["status"], 0) + 1
    told = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    number_of = len(comparison["gates"])
    said = f"{times(number_of, 'gate')}: {told}" if number_of else "no gates: nothing was promised"
    line = tag("p", chip(comparison["verdict"]), f" {said}", class_="verdict")
    return tag("header", tag("h1", title), line)


def recommendation(comparison: Tree) -> Markup | None:
    """What to deploy, in words."""
    told = comparison.get("recommendation")
    if not told or not told["words"]:
        return None
    first, *others = told["words"]
    return tag(
        "section",
        tag("h2", "Recommendation"),
        tag("p", first, class_="lead"),
        [tag("p", line) for line in others],
        class_="advice",
    )


def ladder(comparison: Tree) -> Markup | None:
    """One step for each level, rising, with its figures; the control beside the last."""
    steps = []
    for level, words in _STEPS.items():
        rows = [*_level_figures(comparison, level)]
        if rows:
            steps.append(_step(level, level, words, rows))
    beside = [*_control_figures(comparison)]
    if beside:
        steps.append(_step("control", "Control", "the same training without L1", beside))
    if len(steps) < 2:
        return None
    return tag(
        "section",
        tag("h2", "The ladder"),
        tag("ol", steps, class_="ladder"),
        tag(
            "p",
            "Loss is in nats for each token: lower is better. Accuracy is the share of items "
            "answered right. In brackets: 95 % intervals.",
            class_="soft",
        ),
    )


def _step(kind: str, name: str, words: str, rows: list[tuple[str, str, str]]) -> Markup:
    figures = [
        tag(
            "div",
            tag("dt", what),
            tag("dd", tag("b", value), " ", tag("span", ends, class_="soft") if ends else None),
        )
        for what, value, ends in rows
    ]
    heads = tag("div", tag("b", name), tag("span", words), class_="name")
    return tag("li", heads, tag("dl", figures), class_=f"step {kind}")


def _level_figures(comparison: Tree, level: str) -> Iterator[tuple[str, str, str]]:
    """What was measured of a level: (name, figure, interval)."""
    losses = comparison["levels"].get(level, {})
    for kind in ("domain", "general"):
        if losses.get(f"{kind}_loss") is not None:
            ends = losses[f"{kind}_interval"] or (None, None)
            yield f"loss, {kind} text", number(losses[f"{kind}_loss"]), interval(*ends)
    rows = [row for row in comparison.get("arms") or () if row["level"] == level]
    # A level by itself: without what was fitted to the task's rows beside it.
    own = [row for row in rows if row["role"] == "model" or row["arm"] in _BARE]
    yield from _best([row for row in own if row["arm"] != "joint_untrained"], comparison)
    if level == "L2" and not own:
        yield from _heads(comparison, control=False)


def _control_figures(comparison: Tree) -> Iterator[tuple[str, str, str]]:
    rows = [row for row in comparison.get("arms") or () if row["role"] == "control"]
    yield from _best(rows, comparison)
    if not rows:
        yield from _heads(comparison, control=True)


def _best(rows: list[Tree], comparison: Tree) -> Iterator[tuple[str, str, str]]:
    """The recommended way where it is among these, else the most accurate."""
    rows = [row for row in rows if row["accuracy"] and row["accuracy"]["estimate"] is not None]
    if not rows:
        return
    asked = (comparison.get("recommendation") or {}).get("arm")
    chosen = [row for row in rows if row["arm"] == asked]
    row = (chosen or sorted(rows, key=lambda r: -r["accuracy"]["estimate"]))[0]
    figure = row["accuracy"]
    ends = interval(figure["low"], figure["high"])
    yield f"accuracy, {row_name({**row, 'role': ''})}", number(figure["estimate"]), ends


def _heads(comparison: Tree, *, control: bool) -> Iterator[tuple[str, str, str]]:
    """Of each form: the model's figures, or its control's."""
    for head, figures in comparison["heads"].items():
        above, straight = figures["with_l1"], figures["without_l1"]
        # Where nothing stands on an L1, what is without one is the model itself.
        reached = (straight if above else None) if control else above or straight
        if reached is not None:
            ends = interval(reached["low"], reached["high"])
            yield f"accuracy, {head}", number(reached["accuracy"]), ends
