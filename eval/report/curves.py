"""Curves as inline SVG: what a training did, update by update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eval.report.markup import Markup, tag

_WIDTH, _HEIGHT = 440, 214
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 306, 14, 170
# Below so many points a line alone would be hard to see.
_FEW = 40
_LINE_HEIGHT = 16.0


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        name: written at its end; empty: not written.
        kind: ``a`` or ``b``, the page's two colours.
        points: (update, figure), by update.
        faint: a companion, e.g. another seed of the same training.
    """

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]
    faint: bool = False


def curve_plot(
    label: str, curves: Sequence[Curve], *, from_zero: bool = False, mark: float | None = None
) -> Markup | None:
    """Lines over updates; None where there is no finite point.

    Args:
        label: what the plot shows; where its lines begin and end is read out after it.
        from_zero: whether the axis begins at 0 whatever the figures are.
        mark: an update to point out, that of the kept weights.
    """
    drawn = [curve for curve in map(_finite, curves) if curve.points]
    if not drawn:
        return None
    figures = [y for curve in drawn for _, y in curve.points] + ([0.0] if from_zero else [])
    y_step, low, high = round_axis(min(figures), max(figures))
    last = max(curve.points[-1][0] for curve in drawn)
    x_step, _, _ = round_axis(0.0, max(last, 1.0))
    x_step = max(1.0, x_step)

    def x_of(update: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * update / max(last, 1.0)

    def y_of(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low)

    parts: list[Markup] = []
    for index in range(round((high - low) / y_step) + 1):
        y = y_of(low + index * y_step)
        parts.append(tag("line", x1=_LEFT, x2=_RIGHT, y1=y, y2=y, class_="grid"))
        words = figure_text(round(low / y_step + index) * y_step)
        parts.append(tag("text", words, x=_LEFT - 8, y=y + 4.5, text_anchor="end", class_="axis"))
    for index in range(math.floor(last / x_step + 1e-9) + 1):
        x, words = x_of(index * x_step), figure_text(index * x_step)
        anchor = {"y": _BOTTOM + 20, "text_anchor": "middle", "class_": "axis"}
        parts.append(tag("text", words, x=x, **anchor))
    if mark is not None:
        x = x_of(mark)
        parts.append(tag("line", x1=x, x2=x, y1=_TOP, y2=_BOTTOM, class_="chance"))
    # Companions first, so that the named lines lie above them.
    for curve in sorted(drawn, key=lambda c: not c.faint):
        parts += _line(curve, [(x_of(x), y_of(y)) for x, y in curve.points])
    parts += _names([(y_of(c.points[-1][1]), c) for c in drawn if c.name])
    middle = (_LEFT + _RIGHT) / 2
    parts.append(tag("text", "update", x=middle, y=208, text_anchor="middle", class_="axis"))
    told = "; ".join(_told(curve) for curve in drawn if curve.name)
    view = f"0 0 {_WIDTH} {_HEIGHT}"
    return tag("svg", parts, viewBox=view, role="img", aria_label=f"{label}: {told}")


def figure_text(value: float) -> str:
    """A figure in few letters, whatever its size."""
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e6 else f"{value / 1e6:.4g}M"
    return f"{value:.4g}"


def _short(value: float) -> str:
    """At most six letters, for what stands beside a line."""
    if abs(value) >= 10_000:
        return f"{value / 1e6:.3g}M" if abs(value) >= 1e6 else f"{value / 1e3:.3g}k"
    text = figure_text(value)
    return text if len(text) <= 6 else f"{value:.2g}".replace("e-0", "e-")


def _finite(curve: Curve) -> Curve:
    points = tuple((x, y) for x, y in curve.points if math.isfinite(y))
    return Curve(curve.name, curve.kind, points, curve.faint)


def _line(curve: Curve, places: Sequence[tuple[float, float]]) -> list[Markup]:
    kind = f"{curve.kind} faint" if curve.faint else curve.kind
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [tag("polyline", points=line, class_=f"{kind} thin")]
    if len(places) <= _FEW:
        parts += [
            tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=2.5, class_=kind) for x, y in places
        ]
    return parts


def _names(ends: Sequence[tuple[float, Curve]]) -> list[Markup]:
    """Names at the lines' ends, from above, each at least a line below the one before."""
    parts, lowest = [], -math.inf
    for y, curve in sorted(ends, key=lambda end: end[0]):
        lowest = max(y, lowest + _LINE_HEIGHT)
        words = f"{curve.name} {_short(curve.points[-1][1])}"
        # The lowest name must not run into the axis below.
        text_y = min(lowest, _BOTTOM + 4.0) + 4.5
        parts.append(tag("text", words, x=_RIGHT + 6, y=text_y, class_=curve.kind))
    return parts


def _told(curve: Curve) -> str:
    first, last = curve.points[0], curve.points[-1]
    return (
        f"{curve.name} {figure_text(first[1])} at update {first[0]:g}, "
        f"{figure_text(last[1])} at update {last[0]:g}"
    )


def round_axis(low: float, high: float) -> tuple[float, float, float]:
    """A round step, and round ends that hold all figures."""
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high), 1e-12):
        # A flat line lies in the middle.
        span = max(abs(high), 1e-9)
        low, high = low - span / 2, high + span / 2
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return step, math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
