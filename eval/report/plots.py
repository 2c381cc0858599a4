"""Plots as inline SVG: losses by level, accuracies with their intervals, and bars of counts.

Drawn 440 units wide, so that the words stay readable when a phone shrinks them to 330.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.report.markup import Markup, arms_of, tag
from pipeline.data.funnel import REASONS

_WIDTH = 440
_SERIES = (("domain", "a"), ("general", "b"))
# Of a bar plot: where names end, where bars start and end, where counts and shares end.
_NAME_END, _BAR_LEFT, _BAR_RIGHT, _COUNT_END = 112, 120, 300, 384
# Letters that fit beside a bar, and above it, in the widest of the usual fonts.
_BESIDE, _ABOVE = 15, 60


@dataclass(frozen=True)
class Bar:
    """One row of a bar plot.

    Attributes:
        name: what is counted.
        start, length: where the bar lies, as shares of the plot's width.
        kind: ``a`` or ``b`` (the page's two colours), ``soft`` or ``pale``.
        count: the figure, written beside the bar.
        share: of what the plot is of, 0 to 1.
    """

    name: str
    start: float
    length: float
    kind: str
    count: str
    share: float


def bar_plot(label: str, bars: Sequence[Bar], *, whole: bool = False) -> Markup:
    """Horizontal bars with their names, counts and shares.

    Args:
        label: what the plot shows; its figures are read out after it.
        whole: a pale bar of the full width stands behind each.
    """
    # One long name moves all of them above their bars: in two columns nothing would line up.
    above = any(letters(bar.name) > _BESIDE for bar in bars)
    left, pitch = (0, 40) if above else (_BAR_LEFT, 22)
    parts: list[Markup] = []
    for index, bar in enumerate(bars):
        y = pitch * (index + 1) - 18
        name = shortened(bar.name, _ABOVE if above else _BESIDE)
        where = {"x": 0, "y": y - 6} if above else {"x": _NAME_END, "y": y + 12}
        parts.append(tag("text", name, **where, text_anchor=None if above else "end"))
        if whole:
            parts.append(_bar(left, y, 0, 1, "pale"))
        if bar.length > 0:
            parts.append(_bar(left, y, bar.start, bar.length, bar.kind))
        parts.append(tag("text", bar.count, x=_COUNT_END, y=y + 12, text_anchor="end"))
        share = percent(bar.share)
        parts.append(tag("text", share, x=_WIDTH, y=y + 12, text_anchor="end", class_="axis"))
    told = "; ".join(f"{bar.name} {bar.count} ({percent(bar.share)})" for bar in bars)
    return _svg(f"{label}: {told}", pitch * len(bars) + 2, parts)


def funnel_bars(counts: Mapping[str, int]) -> list[Bar]:
    """Each loss hangs where the rows before it end, so that all bars together fill the first."""
    read, received, kept = (counts.get(name, 0) for name in ("read", "received", "kept"))
    total = max(read + received, 1)
    bars = []
    if read or not received:
        bars.append(Bar("read", 0, read / total, "soft", f"{read:,}", read / total))
    if received:
        share = received / total
        bars.append(Bar("received", read / total, share, "soft", f"+{received:,}", share))
    remaining = read + received
    for reason in in_order(counts.keys() - {"read", "received", "kept"}, REASONS):
        share = counts[reason] / total
        remaining -= counts[reason]
        # Rows that another split receives are not lost.
        kind = "soft" if reason.startswith("to ") else "b"
        bars.append(Bar(reason, remaining / total, share, kind, f"−{counts[reason]:,}", share))
    return [*bars, Bar("kept", 0, kept / total, "a", f"{kept:,}", kept / total)]


def length_bars(lengths: Mapping[str, int]) -> list[Bar]:
    """Bars of examples by length: the upper end of each bin to its examples."""
    counts = {int(end): count for end, count in lengths.items()}
    highest = max(counts)
    # An empty bin between others is a gap worth seeing.
    if all(end > 0 and end & (end - 1) == 0 for end in counts):
        end = min(counts)
        while (end := 2 * end) < highest:
            counts.setdefault(end, 0)
    most, total = max(counts.values()), sum(counts.values())
    ends = sorted(counts)
    below = dict(zip(ends[1:], ends, strict=False))
    return [
        Bar(
            f"{below[end] + 1:,} to {end:,}" if end in below else f"to {end:,}",
            0,
            counts[end] / max(most, 1),
            "a",
            f"{counts[end]:,}",
            counts[end] / max(total, 1),
        )
        for end in ends
    ]


def in_order(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """The known ones in their order, then the others by name: manifests sort their keys."""
    given = set(names)
    return [name for name in order if name in given] + sorted(given - set(order))


def percent(share: float) -> str:
    """A share in percent that is never rounded to nothing, or to all."""
    if share in (0, 1):
        return f"{share * 100:.0f} %"
    if share < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if 0.9995 <= share < 1 else f"{share * 100:.1f} %"


def _bar(left: int, y: int, start: float, length: float, kind: str) -> Markup:
    span = _BAR_RIGHT - left
    # What is few stays visible.
    width = max(min(length, 1.0) * span, 1.5)
    x = min(left + max(start, 0.0) * span, _BAR_RIGHT - width)
    return tag("rect", x=float(x), y=y, width=float(width), height=14, rx=2, class_=kind)


def letters(text: str) -> int:
    """Width in Latin letters; Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def shortened(text: str, most: int) -> str:
    """The text with its middle left out where it is too wide: names often differ at the end."""
    if letters(text) <= most:
        return text
    kept = most // 2
    while letters(text[:kept]) + letters(text[-kept:]) + 1 > most:
        kept -= 1
    return f"{text[:kept]}…{text[-kept:]}"


def loss_plot(levels: dict[str, dict[str, Any]]) -> Markup | None:
    """Token loss on domain and general text for each level; None where none was measured."""
    shown = [
        level
        for level, figures in levels.items()
        if any(figures[f"{kind}_loss"] is not None for kind, _ in _SERIES)
    ]
    if not shown:
        return None
    highs = [_ends(levels[level], kind)[1] for level in shown for kind, _ in _SERIES]
    step, top_value = _scale(max(high for high in highs if high is not None))
    left, right, top, bottom = 46, 350, 16, 226
    gap = (right - left) / max(len(shown), 1)

    def x_of(level: str) -> float:
        return left + gap * (shown.index(level) + 0.5)

    def y_of(value: float) -> float:
        return bottom - (bottom - top) * min(value, top_value) / top_value

    parts = _grid_rows(step, top_value, left, right, y_of)
    parts += [tag("text", level, x=x_of(level), y=250.0, text_anchor="middle") for level in shown]
    ends: list[tuple[float, str, str]] = []
    for kind, colour in _SERIES:
        points = [level for level in shown if levels[level][f"{kind}_loss"] is not None]
        line = " ".join(
            f"{x_of(level):.1f},{y_of(levels[level][f'{kind}_loss']):.1f}" for level in points
        )
        parts.append(tag("polyline", points=line, class_=colour))
        for level in points:
            parts += _whisker(x_of(level), levels[level], kind, colour, y_of)
        if points:
            last = levels[points[-1]][f"{kind}_loss"]
            ends.append((y_of(last), f"{kind} {last:.2f}", colour))
    parts += _end_labels(ends, right + 4)
    return _svg("Token loss by level, on domain and general text", 262, parts)


def accuracy_plot(heads: dict[str, dict[str, Any]], chance: float | None) -> Markup | None:
    """Accuracy of each form with and without L1, intervals as bars, chance as a line."""
    rows = [
        (f"{head} {name}".strip(), figures, colour)
        for head in heads
        for name, figures, colour in arms_of(heads[head])
    ]
    if not rows:
        return None
    left, right, top, pitch = 156, 424, 30, 42
    bottom = top + pitch * len(rows)

    def x_of(value: float) -> float:
        return left + (right - left) * value

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = x_of(tick)
        parts.append(tag("line", x1=x, x2=x, y1=top - 8, y2=bottom, class_="grid"))
        parts.append(
            tag("text", f"{tick:g}", x=x, y=bottom + 18, text_anchor="middle", class_="axis")
        )
    if chance is not None:
        x = x_of(chance)
        parts.append(tag("line", x1=x, x2=x, y1=top - 12, y2=bottom, class_="chance"))
        anchor = "start" if chance < 0.8 else "end"
        parts.append(
            tag("text", f"chance {chance:.2f}", x=x, y=12, text_anchor=anchor, class_="axis")
        )
    for index, (name, figures, colour) in enumerate(rows):
        parts += _accuracy_row(name, figures, colour, top + pitch * (index + 0.5), x_of)
    return _svg("Accuracy with 95 % intervals, and chance", bottom + 28, parts)


def _accuracy_row(
    name: str, figures: Mapping[str, Any], colour: str, y: float, x_of: Any
) -> list[Markup]:
    low, high, middle = (x_of(figures[key]) for key in ("low", "high", "accuracy"))
    # Above its own mark, held inside the picture.
    label_x = min(max(middle, 180.0), 400.0)
    return [
        tag("text", name, x=146, y=y + 4.5, text_anchor="end"),
        tag("line", x1=low, x2=high, y1=y, y2=y, class_=colour, stroke_width=3),
        tag("line", x1=low, x2=low, y1=y - 5, y2=y + 5, class_=colour, stroke_width=2),
        tag("line", x1=high, x2=high, y1=y - 5, y2=y + 5, class_=colour, stroke_width=2),
        tag("circle", cx=middle, cy=y, r=5, class_=colour),
        tag("text", f"{figures['accuracy']:.3f}", x=label_x, y=y - 9, text_anchor="middle"),
    ]


def _whisker(x: float, figures: dict[str, Any], kind: str, colour: str, y_of: Any) -> list[Markup]:
    low, high = _ends(figures, kind)
    parts = [tag("circle", cx=x, cy=y_of(figures[f"{kind}_loss"]), r=4, class_=colour)]
    if low is not None and high is not None:
        ends = {"y1": y_of(low), "y2": y_of(high)}
        parts.append(tag("line", x1=x, x2=x, **ends, class_=colour, stroke_width=2))
        parts += [
            tag("line", x1=x - 5, x2=x + 5, y1=y, y2=y, class_=colour, stroke_width=2)
            for y in ends.values()
        ]
    return parts


def _ends(figures: dict[str, Any], kind: str) -> tuple[float | None, float | None]:
    ends = figures[f"{kind}_interval"]
    if ends is None or None in ends:
        return None, figures[f"{kind}_loss"]
    return ends[0], ends[1]


def _end_labels(ends: list[tuple[float, str, str]], x: float) -> list[Markup]:
    """Names at the lines' ends, pushed apart where the lines meet."""
    ends = sorted(ends)
    if len(ends) == 2 and ends[1][0] - ends[0][0] < 16:
        middle = (ends[0][0] + ends[1][0]) / 2
        ends = [(middle - 8, *ends[0][1:]), (middle + 8, *ends[1][1:])]
    return [tag("text", text, x=x, y=y + 4.5, class_=colour) for y, text, colour in ends]


def _grid_rows(step: float, highest: float, left: int, right: int, y_of: Any) -> list[Markup]:
    parts = []
    for index in range(round(highest / step) + 1):
        value = index * step
        y = y_of(value)
        parts.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(
            tag("text", f"{value:g}", x=left - 8, y=y + 4.5, text_anchor="end", class_="axis")
        )
    return parts


def _scale(highest: float) -> tuple[float, float]:
    """A round step and the round value above ``highest`` that ends the axis."""
    rough = max(highest, 1e-6) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return step, math.ceil(highest / step) * step


def _svg(label: str, height: float, parts: list[Markup]) -> Markup:
    return tag("svg", parts, viewBox=f"0 0 {_WIDTH} {height:g}", role="img", aria_label=label)
