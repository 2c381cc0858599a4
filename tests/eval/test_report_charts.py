"""Charts: plotly takes them, a reader takes the figures off the still ones, nothing is cut off."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import plotly.graph_objects as go
import pytest
from report_case import LABELS, comparison, facts

from eval.report.chart import Axis, Chart, Heat, Line
from eval.report.labels import confusion_heat
from eval.report.live import live_chart, live_heat
from eval.report.names import significant, unique_names
from eval.report.page import report_page
from eval.report.still import still_chart, still_heat


def coloured(tree: Any) -> Any:
    """Colours as the page's script puts them in."""
    if isinstance(tree, dict):
        return "#123456" if "ink" in tree else {k: coloured(v) for k, v in tree.items()}
    return [coloured(value) for value in tree] if isinstance(tree, list) else tree


def specs(page: str) -> list[dict[str, Any]]:
    data = page.partition('type="application/json" id="specs">')[2].partition("</script>")[0]
    found: list[dict[str, Any]] = json.loads(data)
    return found


def test_plotly_takes_every_plot_of_a_page() -> None:
    plots = specs(report_page(comparison(), "Banking", facts()))
    assert len(plots) == 23
    for spec in plots:
        # Its own validators refuse what it does not know.
        go.Figure(coloured(spec["data"]), coloured(spec["layout"]))
        assert spec["height"] > 100


def test_the_curve_of_the_page_is_that_of_the_comparison() -> None:
    told = comparison()
    curves = [row["selective"]["risk_coverage"] for row in told["arms"] if row["selective"]]
    plots = specs(report_page(told, "Banking", facts()))
    (plot,) = [spec for spec in plots if len(spec["data"]) == len(curves)]
    for trace, curve in zip(plot["data"], curves, strict=True):
        assert [list(point) for point in zip(trace["x"], trace["y"], strict=True)] == curve


def test_a_reference_has_another_colour_than_what_was_trained() -> None:
    accuracies, frontier, *_ = specs(report_page(comparison(), "Banking", facts()))
    for plot, inks in ((accuracies, ["a", "b", "soft", "soft"]), (frontier, ["soft", "a"])):
        assert [trace["line"]["color"]["ink"] for trace in plot["data"]] == inks


def svg_of(markup: Any) -> ElementTree.Element:
    return ElementTree.fromstring(markup.text)  # noqa: S314


def chart(**changes: Any) -> Chart:
    points = ((1.0, 0.2), (10.0, 0.5), (100.0, 0.9))
    ends = ((0.1, 0.3), (0.4, 0.6), (0.85, 0.95))
    line = Line("a", points, ("one", "two", "three"), band=ends, bars=ends)
    axes = (Axis("rows", log=True), Axis("right", low=0, high=1, percent=True))
    return Chart("Right by rows", *axes, (line,), **changes)


def test_a_reader_takes_the_figures_off_a_still_chart() -> None:
    svg = svg_of(still_chart(chart()))
    ticks = {t.text: t for t in svg.findall("text") if t.get("class") == "axis"}
    x = {value: float(ticks[value].get("x", "")) for value in ("1", "10", "100")}
    y = {value: float(ticks[f"{value} %"].get("y", "")) - 4.5 for value in ("0", "100")}
    line = svg.find("polyline")
    assert line is not None
    places = [tuple(map(float, p.split(","))) for p in line.get("points", "").split()]
    assert [place[0] for place in places] == pytest.approx(list(x.values()), abs=0.1)
    shares = [(place[1] - y["0"]) / (y["100"] - y["0"]) for place in places]
    assert shares == pytest.approx([0.2, 0.5, 0.9], abs=0.005)


@pytest.mark.parametrize(
    "names", [LABELS, [f"很长的中文标签名称第{n}类" for n in range(150)], ["a"]]
)
def test_every_label_lies_inside_the_picture(names: list[str]) -> None:
    points = tuple((0.5, float(i)) for i in range(len(names)))
    axes = (Axis("share", low=0, high=1), Axis("", names=tuple(names)))
    svg = svg_of(still_chart(Chart("x", *axes, (Line("", points),), height=40 * len(names) + 60)))
    inside(svg)
    cells = tuple((i, (i + 1) % len(names), 3) for i in range(len(names)))
    inside(svg_of(still_heat(Heat("x", "answered", "right", tuple(names), tuple(names), cells))))


def inside(svg: ElementTree.Element) -> None:
    width, height = map(float, svg.get("viewBox", "").split()[2:])
    for text in svg.findall("text"):
        # Six units a Latin letter, twelve a Chinese one: the still pictures' small type.
        long = sum(12 if ord(letter) > 0x2E80 else 6 for letter in text.text or "")
        x, anchor = float(text.get("x", "")), text.get("text-anchor")
        left = x - (long if anchor == "end" else long / 2 if anchor == "middle" else 0)
        assert left >= -1, text.text
        assert left + long <= width + long / 2, text.text
        assert 0 < float(text.get("y", "")) <= height


def test_live_and_still_draw_the_same_points() -> None:
    made = chart()
    (trace,) = [t for t in live_chart(made)["data"] if t["mode"] == "lines+markers"]
    assert list(zip(trace["x"], trace["y"], strict=True)) == list(made.lines[0].points)
    assert trace["error_y"]["array"] == pytest.approx([0.1, 0.1, 0.05])
    assert len(svg_of(still_chart(made)).findall("circle")) == 3


CELLS = [("a", "a", 8), ("a", "b", 2), ("b", None, 1), ("c", "c", 5), ("c", "a", 5), ("d", "c", 1)]


def test_what_is_outside_of_the_shown_labels_is_in_one_more_row() -> None:
    heat = confusion_heat(["a", "b"], CELLS)
    assert heat.rows == ("a", "b", "all others")
    assert heat.columns == ("a", "b", "all others", "(no label)")
    # d taken for c is a mistake: not on the diagonal of the rest.
    assert set(heat.cells) == {(0, 0, 8), (0, 1, 2), (1, 3, 1), (2, 2, 5), (2, 0, 5)}
    assert heat.told == "13 of 22 items on the diagonal"


def test_shares_of_a_row_make_one_whole() -> None:
    heat = confusion_heat(["a", "b", "c", "d"], CELLS)
    for row in range(len(heat.rows)):
        shares = [share for r, _, _, share in heat.shares() if r == row]
        assert sum(shares) == pytest.approx(1.0)
    values = live_heat(heat)["data"][0]["z"]
    assert values[0][:2] == [0.8, -0.2]


def test_a_word_is_escaped_where_plotly_would_read_a_tag() -> None:
    line = Line("<b>bold</b>", ((0.0, 1.0),), ("<i>x</i> & %{y}",), labels=("<sub>",))
    spec = live_chart(Chart("x", Axis("<a>"), Axis("", names=("<br>",)), (line,)))
    text = json.dumps(spec)
    assert "<" not in text.replace("<extra></extra>", "")
    assert spec["data"][0]["hovertext"] == ["&lt;i&gt;x&lt;/i&gt; &amp; %{y}"]


def test_two_ways_of_one_name_are_told_apart() -> None:
    rows = [{"arm": "classifier", "role": role, "name": name}
            for role, name in (("model", "x"), ("model", "y"), ("control", "x"))]  # fmt: skip
    assert unique_names(rows) == [
        "classifier head, x", "classifier head, y", "classifier head (control)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.0, "0"), (0.00021, "0.000210"), (31.0, "31.0"), (1985.4, "1,985"), (12, "12")],
)
def test_a_figure_has_three_digits_and_no_power_of_ten(value: float | None, shown: str) -> None:
    assert significant(value) == shown
