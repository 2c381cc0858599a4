"""Charts as plotly's figures.

A colour is ``{"ink": NAME}``: the script takes its value from the style sheet, so that the
reader's light or dark scheme holds. Words are escaped, since plotly reads tags in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from eval.report.axes import figure_text
from eval.report.chart import Axis, Chart, Heat, Line, log_ticks, tick_value, words_above
from eval.report.plots import shortened

Spec = dict[str, Any]

_FAINT = 0.35
# Of a name beside a plot, and beside one on a phone.
_MOST_LETTERS, _NARROW = 30, 18
# Of a heat map's columns that are all numbered.
_ALL_TICKS = 12


def live_chart(chart: Chart) -> Spec:
    """The chart as plotly takes it: data, layout, height in pixels."""
    data: list[Spec] = []
    for place, line in enumerate(chart.lines):
        # Under its place the legend finds a line again.
        data += [{**trace, "legendgroup": str(place)} for trace in _traces(line)]
    layout: Spec = {"xaxis": _axis(chart.x), "yaxis": {**_axis(chart.y), "title": {"text": ""}}}
    if chart.x.log:
        ticks = log_ticks([x for line in chart.lines for x, _ in line.points])
        shown = [figure_text(tick_value(value)) for value in ticks]
        layout["xaxis"] |= {"tickmode": "array", "tickvals": ticks, "ticktext": shown}
    spec: Spec = {"data": data, "layout": layout, "height": chart.height + 10}
    if chart.y.names:
        layout["yaxis"]["autorange"] = "reversed"
        spec["narrow"] = _ticks(chart.y.names, _NARROW)
    return spec


def live_heat(heat: Heat) -> Spec:
    """The grid as plotly takes it."""
    shares: list[list[float | None]] = [[None] * len(heat.columns) for _ in heat.rows]
    words = [[""] * len(heat.columns) for _ in heat.rows]
    for row, column, count, share in heat.shares():
        # What is right and what is wrong are two colours: below 0 is wrong.
        shares[row][column] = round(share if row == column else -share, 3)
        told = f"{heat.rows[row]} → {heat.columns[column]}: {count:,} ({share:.0%})"
        words[row][column] = escape(told, quote=False)
    trace = {
        "type": "heatmap", "z": shares, "text": words, "hovertemplate": "%{text}<extra></extra>",
        "zmin": -1, "zmax": 1, "showscale": False, "xgap": 1, "ygap": 1, "hoverongaps": False,
        "colorscale": [
            [0, {"ink": "b"}], [0.49, {"ink": "b", "alpha": 0.2}],
            [0.51, {"ink": "a", "alpha": 0.2}], [1, {"ink": "a"}],
        ],
    }  # fmt: skip
    numbered, narrow = (
        tuple(f"{shortened(name, most)}  {place}" for place, name in enumerate(heat.rows, 1))
        for most in (_MOST_LETTERS, _NARROW - 6)
    )
    rows, columns = Axis(heat.y, names=numbered), Axis(heat.x, names=heat.columns)
    down = {**_axis(rows), "title": {"text": ""}, "autorange": "reversed"}
    # By number, of many every fifth: names would lie over each other.
    every = range(len(heat.columns))
    shown = every if len(every) <= _ALL_TICKS else [0, *every[4::5]]
    across = {**_axis(columns), "tickvals": list(shown), "showgrid": False}
    # The last may be answers of no label, which has no row.
    across["ticktext"] = [str(place + 1) if place < len(heat.rows) else "–" for place in shown]
    layout = {"xaxis": across, "yaxis": {**down, "showgrid": False}}
    height = 17 * len(heat.rows) + 70
    return {
        "data": [trace], "layout": layout, "height": height, "narrow": _ticks(narrow, _NARROW),
    }  # fmt: skip


def _traces(line: Line) -> list[Spec]:
    """The band's two edges, then the line itself."""
    ink = {"ink": line.colour}
    parts = (("lines", line.joined), ("markers", line.marked), ("text", bool(line.labels)))
    mode = "+".join(part for part, wanted in parts if wanted)
    marker = {"color": ink, "size": 8, "symbol": "circle-open" if line.hollow else "circle"}
    trace: Spec = {
        "type": "scatter",
        **_places(line),
        "mode": mode or "markers",
        "name": escape(line.name, quote=False),
        "line": {"color": ink, "width": 2, "dash": "dash" if line.dashed else "solid"},
        # Bars alone: plotly would draw lines where no mode is asked for.
        "marker": marker if mode else {"color": ink, "opacity": 0},
        **_hover(line),
    }
    if line.faint:
        trace["opacity"] = _FAINT
    if line.labels:
        trace["text"] = [escape(shortened(w, _MOST_LETTERS), quote=False) for w in line.labels]
        # Neighbours' words part: above and below by turns. One may hang over the plot's edge.
        places = ["top right" if above else "bottom right" for above in words_above(line)]
        trace |= {"textposition": places, "cliponaxis": False}
    if line.bars:
        trace["error_x" if line.across else "error_y"] = _bars(line, ink)
    return [*_edges(line, ink), trace]


def _places(line: Line) -> Spec:
    return {"x": [x for x, _ in line.points], "y": [y for _, y in line.points]}


def _hover(line: Line) -> Spec:
    """What is told of a point; nothing of a line that is there to be seen only."""
    if line.words:
        words = [escape(words, quote=False) for words in line.words]
        return {"hovertext": words, "hovertemplate": "%{hovertext}<extra></extra>"}
    if line.template:
        return {"hovertemplate": f"{line.template}<extra></extra>"}
    return {"hoverinfo": "skip"}


def _edges(line: Line, ink: Spec) -> list[Spec]:
    if not line.band:
        return []
    shared = {
        "type": "scatter", "x": _places(line)["x"], "mode": "lines", "line": {"width": 0},
        "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip
    lower, upper = ([ends[end] for ends in line.band] for end in (0, 1))
    fill = {"fill": "tonexty", "fillcolor": {**ink, "alpha": 0.16}}
    return [{**shared, "y": lower}, {**shared, "y": upper, **fill}]


def _bars(line: Line, ink: Spec) -> Spec:
    place = 0 if line.across else 1
    values = [point[place] for point in line.points]
    return {
        "type": "data", "symmetric": False, "color": ink, "thickness": 2,
        "width": 4 if line.marked else 0,
        "array": [high - v for v, (_, high) in zip(values, line.bars, strict=True)],
        "arrayminus": [v - low for v, (low, _) in zip(values, line.bars, strict=True)],
    }  # fmt: skip


def _ticks(names: Sequence[str], most: int) -> list[str]:
    return [escape(shortened(name, most), quote=False) for name in names]


def _axis(axis: Axis) -> Spec:
    font = {"color": {"ink": "soft"}, "size": 13}
    title = {"text": escape(axis.name, quote=False), "font": font}
    spec: Spec = {"title": title}
    if axis.names:
        places = list(range(len(axis.names)))
        names = _ticks(axis.names, _MOST_LETTERS + 6)
        return {**spec, "tickmode": "array", "tickvals": places, "ticktext": names}
    if axis.percent:
        spec["tickformat"] = ",.3~%"
    elif not axis.log:
        # A rate of 0.0002 reads better than one of 200µ.
        spec["tickformat"] = ",~g"
    if axis.log:
        return {**spec, "type": "log"}
    if axis.low is not None and axis.high is not None:
        margin = (axis.high - axis.low) * 0.03
        spec["range"] = [axis.low - margin, axis.high + margin]
    elif axis.low == 0:
        spec["rangemode"] = "tozero"
    return spec
