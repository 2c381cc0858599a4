"""Round axes, and figures in few letters."""

from __future__ import annotations

import math


def figure_text(value: float) -> str:
    """A figure in few letters, whatever its size."""
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e6 else f"{value / 1e6:.4g}M"
    return f"{value:.4g}"


def short_text(value: float) -> str:
    """At most six letters, for what stands beside a line."""
    if abs(value) >= 10_000:
        return f"{value / 1e6:.3g}M" if abs(value) >= 1e6 else f"{value / 1e3:.3g}k"
    text = figure_text(value)
    return text if len(text) <= 6 else f"{value:.2g}".replace("e-0", "e-")


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
