"""Two ways, two data sets, two levels: what differs between them, item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
from eval.report.names import unique_names
from eval.report.plots import percent
from pipeline.core.arms import arm_name

Tree = Mapping[str, Any]

# Pairs and examples that are open from the start.
_FIRST = 6
# Of a text that are shown.
_LETTERS = 400


def pairs_section(comparison: Tree) -> Markup | None:
    """Every two ways on the same items: what is shown, and what could have been."""
    pairs = list(comparison.get("pairs") or ())
    if not pairs:
        return None
    # Of many pairs those with the recommended way are asked for first.
    key = (comparison.get("recommendation") or {}).get("key")
    first = [pair for pair in pairs if key in (pair["a"], pair["b"])] or pairs[:_FIRST]
    others = [pair for pair in pairs if pair not in first]
    note = (
        "Each two were asked the same items. p: of no difference, over what the interval covers. "
        "McNemar's p is for these weights and one pair alone; Holm's allows for all pairs. Could "
        "show: the smallest difference that a test of this size finds in four of five trials."
    )
    parts = [_pairs(first), tag("p", note, class_="soft")]
    if others:
        parts.append(tag("details", tag("summary", f"{len(others)} more"), _pairs(others)))
    return section("Compared in pairs", joined(parts))


def _pairs(pairs: Sequence[Tree]) -> Markup:
    cells: list[list[Content]] = []
    for pair in pairs:
        told = pair["difference"] or {}
        cells.append(
            [
                tag("div", pair["words"], class_="wide"), number(told.get("estimate"), sign=True),
                interval(told.get("low"), told.get("high"), sign=True), _chance(pair.get("p")),
                _chance(pair["mcnemar_p"]), _chance(pair["holm_p"]),
                number(pair["smallest_difference"]), pair["seeds"],
            ]
        )  # fmt: skip
    columns = ["in words", "difference", "95 % interval", "p", "McNemar", "Holm", "could show"]
    return table([*columns, "seeds"], cells)


def forgetting_section(comparison: Tree) -> Markup | None:
    """What the levels below could do, and the model above them still can."""
    rows = comparison.get("forgetting") or ()
    cells: list[list[Content]] = []
    for row in rows:
        change = row["change"]
        # Text is read by no arm; its losses are set in ratio.
        ratio = row["arm"] is None
        spread = interval(change["low"], change["high"], sign=not ratio)
        shown = number(change["estimate"], sign=not ratio)
        side = {True: "forgotten", False: "gained", None: "no change shown"}[row["forgotten"]]
        what = "bits per byte" if ratio else f"accuracy, {arm_name(row['arm'])}"
        against = [number(row["was"]), number(row["model"]), f"{shown}{' times' * ratio}", spread]
        cells.append([row["suite"], what, row["below"], side, *against])
    if not cells:
        return None
    columns = ["suite", "measure", "against", "", "was", "is", "change", "95 % interval"]
    return section("Forgetting", table(columns, cells, left=4))


def disagreements_section(comparison: Tree) -> Markup | None:
    """Items that the ways answer differently."""
    told = comparison.get("disagreements")
    if not told:
        return None
    lines = []
    if told["share"] is not None:
        lines.append(f"The ways gave different answers to {percent(told['share'])} of the items.")
    if (share := told.get("constrained_against_likelihood")) is not None:
        why = ": the best next word does not always lead to the best label" if share else ""
        lines.append(
            f"Writing step by step and the likeliest whole label differ on {percent(share)}{why}."
        )
    parts = [tag("p", " ".join(lines))] if lines else []
    if told["items"]:
        rows = list(comparison.get("arms") or ())
        keys = [row.get("key", row["arm"]) for row in rows]
        names = dict(zip(keys, unique_names(rows), strict=True))
        arms = {key: names.get(key, arm_name(key)) for key in told["arms"]}
        cards = [_item(item, arms) for item in told["items"]]
        parts.append(tag("div", cards[:_FIRST], class_="items"))
        if more := cards[_FIRST:]:
            words = tag("summary", f"{len(more)} more")
            parts.append(tag("details", words, tag("div", more, class_="items")))
        if left := told["different"] - len(cards):
            parts.append(tag("p", f"Not shown: {left:,} more of these items.", class_="soft"))
    return section("Disagreements", joined(parts)) if parts else None


def _item(item: Tree, arms: Mapping[str, str]) -> Markup:
    """One text, its label, and each answer marked as right or wrong."""
    answers = []
    for arm, name in arms.items():
        if arm not in item["answers"]:
            continue
        answer = item["answers"][arm]
        right = answer == item["gold"]
        sign = tag("i", "✓" if right else "✕", class_="right" if right else "wrong")
        said = answer if answer is not None else "(no label)"
        answers.append(tag("li", sign, tag("span", name), tag("b", breakable(said))))
    gold = tag("p", "Right: ", tag("b", breakable(item["gold"])), class_="gold")
    text = item["text"]
    if len(text) > _LETTERS:
        text = f"{text[:_LETTERS].rstrip()} …"
    return tag("article", tag("p", text, class_="text"), gold, tag("ul", answers))


def gap_section(comparison: Tree) -> Markup | None:
    """Accuracy on rows that were trained on, against that on the test."""
    told = comparison.get("gap") or ()
    rows = [row for row in told if row["train"] is not None]
    if not rows:
        return section("Known by heart?", _unasked(told)) if told else None
    cells: list[list[Content]] = [
        [name, row["train_items"], *(number(_plain(row[part])) for part in ("train", "test")),
         number(_plain(row["gap"]), sign=True), _ends(row["gap"])]
        for name, row in zip(unique_names(rows), rows, strict=True)
    ]  # fmt: skip
    columns = [
        "way of answering",
        "training rows",
        "on them",
        "on the test",
        "gap",
        "95 % interval",
    ]
    note = "A large gap means that a model knows its rows by heart."
    found = joined([table(columns, cells, left=1), tag("p", note, class_="soft"), _unasked(told)])
    return section("Known by heart?", found)


def _unasked(told: Sequence[Mapping[str, Any]]) -> Markup:
    """Whose training rows were not asked, and why that may be."""
    missing = [row for row in told if row["train"] is None]
    if not missing:
        return joined([])
    text = (
        f"Not measured of {', '.join(unique_names(missing))}: no training row could be asked by "
        "itself (with packing several lie in a block), or evaluate.train_items is 0."
    )
    return tag("p", text, class_="soft")


def _ends(figure: Any) -> str:
    known = isinstance(figure, Mapping)
    return interval(figure.get("low"), figure.get("high"), sign=True) if known else ""


def _plain(figure: Any) -> Any:
    return figure.get("estimate") if isinstance(figure, Mapping) else figure


def _chance(value: float | None) -> str:
    """A p-value: what is below 0.001 is said to be so."""
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
