"""A page's charts: each as a still picture with its live plot beside it, and their data."""

from __future__ import annotations

from collections.abc import Iterable

from eval.report.chart import Chart, Heat
from eval.report.live import Spec, live_chart, live_heat
from eval.report.markup import Markup, tag
from eval.report.still import still_chart, still_heat


class Figures:
    """Collects what the page's script draws, while its sections are made."""

    def __init__(self) -> None:
        self.specs: list[Spec] = []

    def add(self, name: str, chart: Chart | Heat, notes: Iterable[str] = ()) -> Markup:
        """A plot under its name, with lines below it."""
        if isinstance(chart, Heat):
            spec, still, legend = live_heat(chart), still_heat(chart), None
            above = ""
        else:
            spec, still = live_chart(chart), still_chart(chart)
            legend, above = _legend(chart), chart.y.name
        self.specs.append(spec)
        place = len(self.specs) - 1
        live = tag("div", data_live=place, class_="live", style=f"min-height:{spec['height']}px")
        lines = [tag("div", note) for note in notes]
        return tag(
            "figure",
            tag("h3", name) if name else None,
            tag("p", above, class_="split soft") if above else None,
            tag(
                "div",
                tag("div", still, class_="still"),
                live,
                class_="chart",
                role="img",
                aria_label=chart.told,
            ),
            legend,
            tag("figcaption", lines) if lines else None,
        )


def _legend(chart: Chart) -> Markup | None:
    named = [(place, line) for place, line in enumerate(chart.lines) if line.name]
    if len(named) < chart.legend_from:
        return None
    keys = [
        tag(
            "li",
            tag("i", class_=f"key {line.colour}{' dashes' if line.dashed else ''}"),
            line.name,
            data_line=place,
        )
        for place, line in named
    ]
    return tag("ul", keys, class_="legend")
