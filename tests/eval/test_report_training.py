"""Curves of trainings on the page: where the figures are, inside the picture, and escaped."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from eval.report.curves import Curve, curve_plot, figure_text
from eval.report.tasks import figure_name
from eval.report.training import training_part


def svg_of(markup: Any) -> ElementTree.Element:
    return ElementTree.fromstring(markup.text)  # noqa: S314


def axes(svg: ElementTree.Element) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(place, figure) of the ticks of x and of y, as a reader would take them off the picture."""
    rows, columns = [], []
    for text in svg.findall("text"):
        if text.get("class") == "axis" and text.text != "update":
            value = float((text.text or "").replace(",", ""))
            if text.get("text-anchor") == "middle":
                columns.append((float(text.get("x", "")), value))
            else:
                rows.append((float(text.get("y", "")) - 4.5, value))
    return columns, rows


def read_off(place: float, ticks: list[tuple[float, float]]) -> float:
    (p0, v0), (p1, v1) = ticks[0], ticks[-1]
    return v0 + (place - p0) * (v1 - v0) / (p1 - p0)


@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 12_345.0])
def test_a_reader_takes_the_figures_off_the_axes(scale: float, from_zero: bool) -> None:
    points = tuple((float(i), scale * (2 + math.sin(i))) for i in range(1, 61))
    plot = curve_plot("Loss", [Curve("training", "a", points)], from_zero=from_zero)
    svg = svg_of(plot)
    columns, rows = axes(svg)
    assert from_zero == (min(value for _, value in rows) == 0)
    line = svg.find("polyline")
    assert line is not None
    places = [pair.split(",") for pair in line.get("points", "").split()]
    assert len(places) == len(points)
    height = max(value for _, value in rows) - min(value for _, value in rows)
    for (x, y), (update, value) in zip(places, points, strict=True):
        assert read_off(float(x), columns) == pytest.approx(update, abs=0.1)
        assert read_off(float(y), rows) == pytest.approx(value, abs=0.01 * height)


@pytest.mark.parametrize(
    "figures",
    [[1.0], [0.0, 0.0], [5.0] * 9, [1e-12, 3e5], [-3.0, 2.0], [2e7, 3e7], [1e-5, 1.1e-5]],
)
def test_everything_lies_inside_the_picture(figures: list[float]) -> None:
    curves = [
        Curve("validation", kind, tuple((float(i + 1), y) for i, y in enumerate(figures)))
        for kind in "ab"
    ]
    svg = svg_of(curve_plot("Loss", curves, mark=1))
    _, _, width, height = map(float, svg.get("viewBox", "").split())
    for line in svg.findall("polyline"):
        for pair in line.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    names = [t for t in svg.findall("text") if t.get("class") in {"a", "b"}]
    for text in names:
        # Seven units a letter: the widest of the usual fonts at this size.
        assert float(text.get("x", "")) + 7.2 * len(text.text or "") <= width
        assert 0 < float(text.get("y", "")) <= height
    assert abs(float(names[0].get("y", "")) - float(names[1].get("y", ""))) >= 4


def test_what_is_no_number_is_left_out() -> None:
    points = ((1.0, 2.0), (2.0, math.nan), (3.0, math.inf), (4.0, 1.0))
    plot = curve_plot("Loss", [Curve("training", "a", points)])
    assert len(svg_of(plot).findall("circle")) == 2
    assert curve_plot("Loss", [Curve("training", "a", ((1.0, math.nan),))]) is None
    assert curve_plot("Loss", []) is None


def test_a_figure_is_told_in_few_letters() -> None:
    figures = {1234.5: "1,234", 12_345_678.0: "12.35M", 0.0: "0", 2.2781e-6: "2.278e-06"}
    assert {value: figure_text(value) for value in figures} == figures


def training(**changes: Any) -> dict[str, Any]:
    history: list[dict[str, float]] = [
        {"step": i, "loss": 3 / i, "learning_rate": 1e-3 / i, "grad_norm": 1.0} for i in range(1, 9)
    ]
    validation = {"validation_loss": 1.5, "validation_accuracy": 0.5, "validation_macro_f1": 0.4}
    return {
        "name": "task", "objective": "classify", "role": "model", "seed": 1,
        "history": [*history[:4], {"step": 4, **validation}, *history[4:]],
        "speed": [[i, 900.0 + i] for i in range(1, 9)], "tokens_per_s": 910.0, "kept": 4,
        **changes,
    }  # fmt: skip


def titles(text: str) -> list[str]:
    return re.findall(r"<h4>(.*?)</h4>", text)


def test_a_training_shows_loss_measures_rate_norm_and_speed() -> None:
    part = training_part([training()])
    assert part is not None
    assert titles(part.text) == [
        "Loss", "On validation", "Learning rate", "Gradient norm, before clipping",
        "Tokens per second",
    ]  # fmt: skip
    assert "training 3 at update 1, 0.375 at update 8; validation 1.5 at update 4" in part.text
    assert "accuracy 0.5 at update 4" in part.text
    assert "Dashes: update 4, whose weights were kept." in part.text
    assert "Over the whole training: 910." in part.text


def test_seeds_share_a_plot_and_controls_are_folded() -> None:
    several = [
        *(training(seed=seed) for seed in (1, 2, 3)),
        training(name="other", role="control"),
    ]
    part = training_part(several)
    assert part is not None
    assert part.text.count("<details") == 2
    assert part.text.count("<details open") == 1
    assert part.text.count("<h4>Loss</h4>") == 2
    assert "Full colour: seed 1. Pale: seeds 2, 3." in part.text
    assert "other, objective classify (control)" in part.text


def test_numbers_are_measured_by_their_error() -> None:
    history = [{"step": 1, "loss": 1.0}, {"step": 1, "validation_loss": 1.0,
               "validation_mae": 0.5, "validation_r2": 0.1}]  # fmt: skip
    part = training_part([training(objective="regress", history=history, speed=[], kept=None)])
    assert part is not None
    assert titles(part.text) == ["Loss", "Mean absolute error on validation", "R² on validation"]
    assert "Mean absolute error on validation: validation 0.5 at update 1" in part.text


def test_a_measure_has_one_name_in_curves_and_tables() -> None:
    history = [{"step": 1, "loss": 1.0}, {"step": 1, "validation_reward_accuracy": 0.75}]
    part = training_part([training(objective="dpo", history=history, speed=[], kept=None)])
    assert part is not None
    assert titles(part.text) == ["Loss", "Chosen preferred on validation"]
    assert figure_name("reward_accuracy") == figure_name("preference_accuracy", "preference")
    assert all(figure_name(name) != name for name in ("mae", "r2", "macro_f1", "entity_f1"))


def test_a_training_without_figures_has_no_section() -> None:
    assert training_part(None) is None
    assert training_part([]) is None
    assert training_part([training(history=[], speed=[])]) is None


def test_names_are_escaped() -> None:
    part = training_part([training(name='</summary><script>alert("x")</script>')])
    assert part is not None
    assert "<script" not in part.text
