"""Label by label: what is confused with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.chart import Heat
from eval.report.figures import Figures
from eval.report.markup import Content, Markup, breakable, joined, number, section, table, tag

Tree = Mapping[str, Any]
# gold label, answer (None: no label), items
Cell = tuple[str, str | None, int]

_MOST = 30
_REST, _NONE = "all others", "(no label)"


def labels_section(comparison: Tree, figures: Figures) -> Markup | None:
    """For each form: the heat map, the commonest mistakes, every label."""
    parts = []
    for index, (head, told) in enumerate(comparison["classes"].items()):
        found = [plot] if (plot := _confusion(told, figures)) is not None else []
        summary = f"{head} form: {told['model']}, seed {told['seed']}"
        more = tag("details", tag("summary", "Every label"), _every(told))
        body = tag(
            "div", found, [tag("div", _mistakes(told))] if told["mistakes"] else [], class_="pair"
        )
        opened = "" if index == 0 else None
        parts.append(tag("details", tag("summary", summary), body, more, open=opened))
    return section("Label by label", joined(parts)) if parts else None


def _mistakes(told: Tree) -> Markup:
    rows: list[list[Content]] = [
        [
            breakable(row["gold"]),
            breakable(_NONE if row["label"] is None else row["label"]),
            row["items"],
        ]
        for row in told["mistakes"]
    ]
    return table(["right", "answered", "items"], rows, 2, "Commonest mistakes")


def _every(told: Tree) -> Markup:
    rows: list[list[Content]] = [
        [breakable(row["label"]), *(number(row[name]) for name in ("precision", "recall", "f1")),
         f"{row['support']:,}"]
        for row in told["per_class"]
    ]  # fmt: skip
    return table(["label", "precision", "recall", "F1", "items"], rows)


def _confusion(told: Tree, figures: Figures) -> Markup | None:
    cells: list[Cell] = [tuple(cell) for cell in told.get("confusion") or ()]
    labels = [row["label"] for row in told["per_class"]]
    if not cells:
        return None
    shown = _shown(labels, cells)
    heat = confusion_heat(shown, cells)
    notes = ["Rows: the right label. Columns: the answer. Blue: right; orange: mistaken."]
    if len(shown) < len(labels):
        notes.append(
            f"The {len(shown)} of {len(labels)} labels with the most mistakes; "
            "the rest are in the last row and column."
        )
    return figures.add("What is taken for what", heat, notes)


def _shown(labels: Sequence[str], cells: Sequence[Cell]) -> list[str]:
    """All labels in their order; of many, those in the most mistakes."""
    if len(labels) <= _MOST:
        return list(labels)
    wrong: Counter[str] = Counter()
    for gold, answer, items in cells:
        if gold != answer:
            wrong[gold] += items
            if answer is not None:
                wrong[answer] += items
    ranked = sorted(labels, key=lambda label: (-wrong[label], label))
    kept = set(ranked[:_MOST])
    return [label for label in labels if label in kept]


def confusion_heat(labels: Sequence[str], cells: Sequence[Cell]) -> Heat:
    """The counts as a grid over ``labels``; what is outside of them goes into one more."""
    place = {label: index for index, label in enumerate(labels)}
    rest = any(
        gold not in place or (answer is not None and answer not in place)
        for gold, answer, _ in cells
    )
    silent = any(answer is None for _, answer, _ in cells)
    rows = [*labels, *([_REST] if rest else [])]
    columns = [*rows, *([_NONE] if silent else [])]
    counts: Counter[tuple[int, int]] = Counter()
    for gold, answer, items in cells:
        row = place.get(gold, len(labels))
        column = len(columns) - 1 if answer is None else place.get(answer, len(labels))
        # The rest are many labels: a mistake among them is no right answer.
        if row == column == len(labels) and gold != answer:
            continue
        counts[row, column] += items
    right = sum(items for gold, answer, items in cells if gold == answer)
    told = f"{right:,} of {sum(items for _, _, items in cells):,} items on the diagonal"
    found = tuple((row, column, items) for (row, column), items in sorted(counts.items()))
    return Heat(told, "answered", "right label", tuple(rows), tuple(columns), found)
