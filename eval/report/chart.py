"""What a plot shows, before it is drawn: once as a still picture, once to be played with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("a", "b", "c", "d", "e", "f", "g", "h")
"""The page's colours in the order in which lines take them."""

Pairs = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Axis:
    """One side of a plot.

    Attributes:
        name: what is measured, with its unit.
        low, high: its ends; where the figures end if None.
        log: a tenfold at every step of one size.
        percent: shares are written in percent.
        names: of the places 0, 1, 2, ...; such an axis has no figures.
    """

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    percent: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """Points that belong together.

    Attributes:
        name: in the legend; empty: not there.
        points: (x, y).
        words: what is told of each point; nothing where empty.
        colour: one of COLOURS, or ``soft``.
        band: (low, high) of y for each point, filled.
        bars: (low, high) for each point, as a bar through it.
        across: whether bars lie along x.
        dashed, joined, marked, hollow, faint: how it is drawn.
        labels: a word beside each point; nothing where empty.
        template: plotly's, of what is told of each point, where many points make many words.
    """

    name: str
    points: Pairs
    words: tuple[str, ...] = ()
    colour: str = "a"
    band: Pairs = ()
    bars: Pairs = ()
    across: bool = False
    dashed: bool = False
    joined: bool = True
    marked: bool = True
    hollow: bool = False
    faint: bool = False
    labels: tuple[str, ...] = ()
    template: str = ""


@dataclass(frozen=True)
class Chart:
    """Lines over two axes.

    Attributes:
        told: the plot in words, for whoever does not see it.
        height: in the still picture's units, of which it is ``width`` wide.
        legend_from: so many names of lines stand below the plot; fewer need none.
    """

    told: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    width: int = 440
    height: int = 280
    legend_from: int = 2


@dataclass(frozen=True)
class Heat:
    """Counts in a grid, coloured by their share of the row.

    Attributes:
        told: the plot in words.
        rows, columns: their names, from above and from the left.
        cells: row, column, count; what is not there is 0.
        x, y: what columns and rows are.
    """

    told: str
    x: str
    y: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[int, int, int], ...]

    def shares(self) -> list[tuple[int, int, int, float]]:
        """Each cell with its share of its row."""
        totals: dict[int, int] = {}
        for row, _, count in self.cells:
            totals[row] = totals.get(row, 0) + count
        return [(r, c, count, count / max(totals[r], 1)) for r, c, count in self.cells]


def log_ticks(values: Sequence[float]) -> list[float]:
    """Powers of ten among the values; where there are too few of them, the values' own ends."""
    real = sorted(value for value in values if value > 0)
    if not real:
        return []
    low, high = math.log10(real[0]), math.log10(real[-1])
    powers = [10.0**power for power in range(math.ceil(low - 0.1), math.floor(high + 0.1) + 1)]
    return powers if len(powers) > 1 else [real[0], real[-1]] if low < high else [real[0]]


def tick_value(value: float) -> float:
    """What a tick at an end says: a count as it is, anything else in two digits."""
    return value if value >= 1 and value == round(value) else float(f"{value:.2g}")


def colour_of(index: int) -> str:
    """The colour of the index-th line."""
    return COLOURS[index % len(COLOURS)]


def words_above(line: Line) -> list[bool]:
    """Whether the word beside each point stands above it: by turns, the last one's does."""
    return [number % 2 == 0 for number in reversed(range(len(line.points)))]
