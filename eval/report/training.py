"""The report's section on training: the curves of each model, seeds laid over each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.axes import figure_text, short_text
from eval.report.chart import Axis, Chart, Line, Pairs
from eval.report.figures import Figures
from eval.report.markup import Markup, joined, tag
from eval.report.tasks import figure_name

Training = Mapping[str, Any]

_SHARES = ("accuracy", "macro_f1", "entity_f1")
# Each in a plot of its own: nothing else is measured on its scale. Whether it begins at 0.
# Below so many points a line alone would be hard to see.
_FEW = 40
_ALONE = {"reward_accuracy": True, "mae": False, "r2": False}


def training_part(trainings: object, figures: Figures) -> Markup | None:
    """The section's content; None where there are no curves.

    Args:
        trainings: name, objective, role, seed, history, speed and kept step of each.
        figures: takes the live plots.
    """
    if not isinstance(trainings, Sequence) or not trainings:
        return None
    groups: dict[tuple[str, str, str], list[Training]] = {}
    for one in trainings:
        groups.setdefault((one["role"], one["name"], one["objective"]), []).append(one)
    parts = [_group(key, seeds, figures) for key, seeds in groups.items()]
    drawn = [part for part in parts if part is not None]
    return joined(drawn) if drawn else None


def _group(key: tuple[str, str, str], seeds: Sequence[Training], figures: Figures) -> Markup | None:
    """One model: its first seed in full colour, the others pale."""
    role, name, objective = key
    plots = [one for one in _plots(seeds, figures) if one is not None]
    if not plots:
        return None
    first, *others = [str(one["seed"]) for one in seeds]
    lines = []
    if others:
        names = ", ".join(others)
        lines.append(f"Full colour: seed {first}. Pale: seed{'s' * (len(others) > 1)} {names}.")
    if (kept := seeds[0]["kept"]) is not None:
        whose = f" of seed {first}" if others else ""
        lines.append(f"Dashes: update {kept}{whose}, whose weights were kept.")
    note = [tag("p", " ".join(lines), class_="soft")] if lines else []
    more = {"control": " (control)"}.get(role, "")
    return tag(
        "details",
        tag("summary", f"{name}, objective {objective}{more}"),
        *note,
        tag("div", plots, class_="plots"),
    )


def _plots(seeds: Sequence[Training], figures: Figures) -> list[Markup | None]:
    loss = [("loss", "training", "a"), ("validation_loss", "validation", "b")]
    measured = {name for one in seeds for record in one["history"] for name in record}
    shares = [name for name in _SHARES if f"validation_{name}" in measured][:2]
    measures = [
        (f"validation_{name}", figure_name(name), kind)
        for name, kind in zip(shares, "ab", strict=False)
    ]
    rate, norm = [("learning_rate", "rate", "a")], [("grad_norm", "norm", "a")]
    return [
        _plot("Loss", seeds, loss, figures, mark=True),
        _plot("On validation", seeds, measures, figures, from_zero=True, mark=True),
        *(
            _plot(
                f"{_sentence(figure_name(name))} on validation",
                seeds,
                [(f"validation_{name}", "validation", "b")],
                figures,
                from_zero=from_zero,
                mark=True,
            )
            for name, from_zero in _ALONE.items()
        ),
        _plot("Learning rate", seeds, rate, figures, from_zero=True),
        _plot("Gradient norm, before clipping", seeds, norm, figures, from_zero=True),
        _speed(seeds, figures),
    ]


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _plot(
    title: str,
    seeds: Sequence[Training],
    series: Sequence[tuple[str, str, str]],
    figures: Figures,
    *,
    from_zero: bool = False,
    mark: bool = False,
) -> Markup | None:
    lines = [
        _line(name, kind, _points(one["history"], key), one["seed"], faint=bool(index))
        for key, name, kind in series
        for index, one in enumerate(seeds)
    ]
    return _drawn(title, lines, figures, from_zero, seeds[0]["kept"] if mark else None)


def _speed(seeds: Sequence[Training], figures: Figures) -> Markup | None:
    lines = [
        _line("tokens/s", "a", _finite(one["speed"]), one["seed"], faint=bool(index))
        for index, one in enumerate(seeds)
    ]
    whole = [(one["seed"], one["tokens_per_s"]) for one in seeds if one["tokens_per_s"]]
    several = len(seeds) > 1
    note = ", ".join(
        figure_text(value) + (f" (seed {seed})" if several else "") for seed, value in whole
    )
    told = [f"Over the whole training: {note}."] if note else []
    return _drawn("Tokens per second", lines, figures, True, None, told)


def _line(name: str, colour: str, points: Pairs, seed: object, *, faint: bool) -> Line:
    """A curve; the first seed's has a name, with the figure that it ends in."""
    shown = f"{name} {short_text(points[-1][1])}" if points and not faint else ""
    template = f"{name} %{{y:.4~g}} at update %{{x}}, seed {seed}"
    few = len(points) <= _FEW
    return Line(shown, points, template=template, colour=colour, marked=few, faint=faint)


def _drawn(
    title: str,
    lines: Sequence[Line],
    figures: Figures,
    from_zero: bool,
    mark: float | None,
    notes: Sequence[str] = (),
) -> Markup | None:
    """The plot under its title; None where there is no finite point."""
    # Companions first, so that the named lines lie above them.
    drawn = sorted((line for line in lines if line.points), key=lambda line: not line.faint)
    if not drawn:
        return None
    told = "; ".join(_told(line) for line in drawn if line.name)
    if mark is not None:
        heights = [y for line in drawn for _, y in line.points] + [0.0] * from_zero
        ends = ((float(mark), min(heights)), (float(mark), max(heights)))
        drawn.append(Line("", ends, colour="soft", dashed=True, marked=False))
    axes = (Axis("update", low=0), Axis("", low=0 if from_zero else None))
    chart = Chart(f"{title}: {told}", *axes, tuple(drawn), height=236, legend_from=1)
    return figures.add(title, chart, notes)


def _told(line: Line) -> str:
    (first, start), (last, end) = line.points[0], line.points[-1]
    name = line.name.rpartition(" ")[0]
    return f"{name} {figure_text(start)} at update {first:g}, {figure_text(end)} at update {last:g}"


def _points(history: Sequence[Mapping[str, float]], key: str) -> Pairs:
    return _finite([(record["step"], record[key]) for record in history if key in record])


def _finite(pairs: Sequence[Sequence[float | None]]) -> Pairs:
    """What is a number: a loss of NaN is none, and JSON has it as null."""
    return tuple(
        (float(x), float(y))
        for x, y in pairs
        if x is not None and y is not None and math.isfinite(y)
    )
