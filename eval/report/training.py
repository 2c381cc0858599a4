"""The report's section on training: the curves of each model, seeds laid over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.curves import Curve, curve_plot, figure_text
from eval.report.markup import Markup, joined, tag
from eval.report.tasks import figure_name

Training = Mapping[str, Any]

_SHARES = ("accuracy", "macro_f1", "entity_f1")
# Each in a plot of its own: nothing else is measured on its scale. Whether it begins at 0.
_ALONE = {"reward_accuracy": True, "mae": False, "r2": False}


def training_part(trainings: object) -> Markup | None:
    """The section's content; None where there are no curves.

    Args:
        trainings: name, objective, role, seed, history, speed and kept step of each.
    """
    if not isinstance(trainings, Sequence) or not trainings:
        return None
    groups: dict[tuple[str, str, str], list[Training]] = {}
    for one in trainings:
        groups.setdefault((one["role"], one["name"], one["objective"]), []).append(one)
    parts = [_group(key, seeds) for key, seeds in groups.items()]
    drawn = [part for part in parts if part is not None]
    return joined(drawn) if drawn else None


def _group(key: tuple[str, str, str], seeds: Sequence[Training]) -> Markup | None:
    """One model: its first seed in full colour, the others pale."""
    role, name, objective = key
    figures = [one for one in _figures(seeds) if one is not None]
    if not figures:
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
        tag("div", figures, class_="plots"),
        # Controls are there for whoever asks.
        open="" if role == "model" else None,
    )


def _figures(seeds: Sequence[Training]) -> list[Markup | None]:
    loss = [("loss", "training", "a"), ("validation_loss", "validation", "b")]
    measured = {name for one in seeds for record in one["history"] for name in record}
    shares = [name for name in _SHARES if f"validation_{name}" in measured][:2]
    measures = [
        (f"validation_{name}", figure_name(name), kind)
        for name, kind in zip(shares, "ab", strict=False)
    ]
    return [
        _figure("Loss", seeds, loss, mark=True),
        _figure("On validation", seeds, measures, from_zero=True, mark=True),
        *(
            _figure(
                f"{_sentence(figure_name(name))} on validation",
                seeds,
                [(f"validation_{name}", "validation", "b")],
                from_zero=from_zero,
                mark=True,
            )
            for name, from_zero in _ALONE.items()
        ),
        _figure("Learning rate", seeds, [("learning_rate", "rate", "a")], from_zero=True),
        _figure(
            "Gradient norm, before clipping", seeds, [("grad_norm", "norm", "a")], from_zero=True
        ),
        _speed(seeds),
    ]


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _figure(
    title: str,
    seeds: Sequence[Training],
    series: Sequence[tuple[str, str, str]],
    *,
    from_zero: bool = False,
    mark: bool = False,
) -> Markup | None:
    curves = [
        Curve("" if index else name, kind, _points(one["history"], key), bool(index))
        for key, name, kind in series
        for index, one in enumerate(seeds)
    ]
    kept = seeds[0]["kept"] if mark else None
    return _framed(title, curve_plot(title, curves, from_zero=from_zero, mark=kept))


def _speed(seeds: Sequence[Training]) -> Markup | None:
    curves = [
        Curve("" if index else "tokens/s", "a", tuple(map(tuple, one["speed"])), bool(index))
        for index, one in enumerate(seeds)
    ]
    whole = [(one["seed"], one["tokens_per_s"]) for one in seeds if one["tokens_per_s"]]
    several = len(seeds) > 1
    note = ", ".join(
        figure_text(value) + (f" (seed {seed})" if several else "") for seed, value in whole
    )
    plot = curve_plot("Tokens per second", curves, from_zero=True)
    return _framed("Tokens per second", plot, f"Over the whole training: {note}." if note else "")


def _framed(title: str, plot: Markup | None, note: str = "") -> Markup | None:
    if plot is None:
        return None
    below = [tag("figcaption", note)] if note else []
    return tag("figure", tag("h4", title), plot, *below)


def _points(history: Sequence[Mapping[str, float]], key: str) -> tuple[tuple[float, float], ...]:
    return tuple((record["step"], record[key]) for record in history if key in record)
