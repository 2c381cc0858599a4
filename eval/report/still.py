"""Charts as inline SVG: for print, and wherever no script runs. Colours are the style sheet's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.report.axes import figure_text, round_axis
from eval.report.chart import Axis, Chart, Heat, Line, log_ticks, tick_value, words_above
from eval.report.markup import Markup, tag
from eval.report.plots import letters, shortened

_LETTER = 7.2
_ROW_NAMES = 26
_CELL = 15


@dataclass(frozen=True)
class _Scale:
    """Ticks of an axis, and where its values lie."""

    ticks: list[tuple[float, str]]
    place: Callable[[float], float]


def still_chart(chart: Chart) -> Markup:
    """The chart as SVG."""
    right, top, bottom = chart.width - 24, 12, chart.height - 44
    xs, ys = (_values(chart, axis) for axis in (0, 1))
    y = _scale(chart.y, ys, bottom, top)
    left = 14 + max(38, *(letters(words) * _LETTER for _, words in y.ticks))
    x = _scale(chart.x, xs, left, right)
    parts = [*_grid(chart, x, y, (left, right, top, bottom))]
    # Bands first, so that no line is hidden by another's band.
    for line in chart.lines:
        parts += _band(line, x, y)
    for line in chart.lines:
        parts += _drawn(line, x, y)
    # Words last, so that no bar lies over them.
    for line in chart.lines:
        parts += _labels(line, x, y)
    return _svg(chart.width, chart.height, parts)


def still_heat(heat: Heat) -> Markup:
    """The grid as SVG: rows named at the left, columns by number below."""
    row_names = [shortened(name, _ROW_NAMES) for name in heat.rows]
    left = 30 + max(letters(name) for name in row_names) * _LETTER
    width = left + _CELL * len(heat.columns) + 8
    parts: list[Markup] = []
    for index, name in enumerate(row_names):
        y = _CELL * index + 11.5
        parts.append(tag("text", name, x=left - 26, y=y, text_anchor="end", class_="small"))
        number = {"x": left - 6, "y": y, "text_anchor": "end", "class_": "axis small"}
        parts.append(tag("text", str(index + 1), **number))
    for row, column, _, share in heat.shares():
        place = {"x": left + _CELL * column, "y": _CELL * row + 0.5}
        size = {"width": _CELL - 1, "height": _CELL - 1}
        kind = "a" if row == column else "b"
        # The faintest cell is still seen.
        parts.append(
            tag("rect", **place, **size, class_=kind, opacity=f"{0.15 + 0.85 * share:.2f}")
        )
    bottom = _CELL * len(heat.rows) + 12.0
    for index in range(len(heat.columns)):
        x = left + _CELL * (index + 0.5)
        text = str(index + 1) if index < len(heat.rows) else "–"
        parts.append(tag("text", text, x=x, y=bottom, text_anchor="middle", class_="axis tiny"))
    return _svg(math.ceil(width), math.ceil(bottom + 6), parts)


def _values(chart: Chart, axis: int) -> list[float]:
    found = []
    for line in chart.lines:
        found += [point[axis] for point in line.points]
        if line.across == (axis == 0):
            found += [end for ends in line.bars for end in ends]
        if axis == 1:
            found += [end for ends in line.band for end in ends]
    return found or [0.0]


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> _Scale:
    if axis.names:
        step = (end - start) / len(axis.names)
        ticks = [(float(i), shortened(name, _ROW_NAMES)) for i, name in enumerate(axis.names)]
        # The first name stands highest.
        return _Scale(ticks, lambda value: end - step * (value + 0.5))
    if axis.log:
        return _log_scale(axis, values, start, end)
    low = min(values) if axis.low is None else axis.low
    high = max(values) if axis.high is None else axis.high
    step, bottom, top = round_axis(low, high)
    low, high = bottom if axis.low is None else low, top if axis.high is None else high
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = [(i * step, _words(axis, i * step)) for i in range(first, last + 1)]
    span = high - low
    return _Scale(ticks, lambda value: start + (end - start) * (value - low) / span)


def _log_scale(axis: Axis, values: Sequence[float], start: float, end: float) -> _Scale:
    real = [math.log10(value) for value in values if value > 0] or [0.0]
    low, high = min(real) - 0.15, max(real) + 0.15
    ticks = [(value, _words(axis, tick_value(value))) for value in log_ticks(values)]
    span = high - low

    def place(value: float) -> float:
        return start + (end - start) * (math.log10(max(value, 10**low)) - low) / span

    return _Scale(ticks, place)


def _words(axis: Axis, value: float) -> str:
    return f"{value * 100:.10g} %" if axis.percent else figure_text(value)


def _grid(
    chart: Chart, x: _Scale, y: _Scale, frame: tuple[float, float, float, float]
) -> list[Markup]:
    left, right, top, bottom = frame
    parts = []
    for value, words in y.ticks:
        place = y.place(value)
        parts.append(tag("line", x1=left, x2=right, y1=place, y2=place, class_="grid"))
        soft = None if chart.y.names else "axis"
        where = {"x": left - 8, "y": place + 4.5, "text_anchor": "end", "class_": soft}
        parts.append(tag("text", words, **where))
    for value, words in x.ticks:
        place = x.place(value)
        if chart.y.names:
            parts.append(tag("line", x1=place, x2=place, y1=top, y2=bottom, class_="grid"))
        where = {"x": place, "y": bottom + 18, "text_anchor": "middle", "class_": "axis"}
        parts.append(tag("text", words, **where))
    middle = {"x": (left + right) / 2, "y": bottom + 37, "text_anchor": "middle", "class_": "axis"}
    parts.append(tag("text", chart.x.name, **middle))
    return parts


def _band(line: Line, x: _Scale, y: _Scale) -> list[Markup]:
    if not line.band:
        return []
    places = [x.place(point[0]) for point in line.points]
    lower = [f"{p:.1f},{y.place(ends[0]):.1f}" for p, ends in zip(places, line.band, strict=True)]
    upper = [f"{p:.1f},{y.place(ends[1]):.1f}" for p, ends in zip(places, line.band, strict=True)]
    return [
        tag("polygon", points=" ".join([*upper, *reversed(lower)]), class_=f"{line.colour} wash")
    ]


def _drawn(line: Line, x: _Scale, y: _Scale) -> list[Markup]:
    places = [(x.place(px), y.place(py)) for px, py in line.points]
    parts = []
    if line.joined and len(places) > 1:
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        kind = f"{line.colour} thin{' dashes' * line.dashed}{' faint' * line.faint}"
        parts.append(tag("polyline", points=points, class_=kind))
    for (px, py), (low, high) in zip(places, line.bars, strict=False):
        ends = (
            {"x1": x.place(low), "x2": x.place(high), "y1": py, "y2": py}
            if line.across
            else {"x1": px, "x2": px, "y1": y.place(low), "y2": y.place(high)}
        )
        parts.append(tag("line", **ends, class_=line.colour, stroke_width=2))
    if line.marked:
        kind = f"{line.colour}{' hollow' * line.hollow}{' faint' * line.faint}"
        parts += [
            tag("circle", cx=px, cy=py, r=4, class_=kind, stroke_width=2) for px, py in places
        ]
    return parts


def _labels(line: Line, x: _Scale, y: _Scale) -> list[Markup]:
    found = []
    for (px, py), word, above in zip(line.points, line.labels, words_above(line), strict=False):
        height = y.place(py) + (-8 if above else 15)
        found.append(
            tag("text", shortened(word, 28), x=x.place(px) + 8, y=height, class_="small halo")
        )
    return found


def _svg(width: int, height: int, parts: list[Markup]) -> Markup:
    # The words stand on the element around it, which the live plot shares.
    return tag("svg", parts, viewBox=f"0 0 {width} {height}", aria_hidden="true")
