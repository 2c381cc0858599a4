"""Curves of trainings on the page: where the figures are, inside the picture, and escaped."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from eval.report.axes import figure_text
from eval.report.figures import Figures
from eval.report.tasks import figure_name
from eval.report.training import training_part


def part_of(trainings: Any) -> tuple[str, list[dict[str, Any]]]:
    """The section as text, and its live plots."""
    figures = Figures()
    part = training_part(trainings, figures)
    assert part is not None
    return part.text, figures.specs


@pytest.mark.parametrize(
    "values",
    [[1.0], [0.0, 0.0], [5.0] * 9, [1e-12, 3e5], [-3.0, 2.0], [2e7, 3e7], [1e-5, 1.1e-5]],
)
def test_every_curve_lies_inside_its_picture(values: list[float]) -> None:
    history = [{"step": i + 1, "loss": y} for i, y in enumerate(values)]
    text, _ = part_of([training(history=history, speed=[], kept=1)])
    (svg,) = [ElementTree.fromstring(plot) for plot in re.findall("<svg.*?</svg>", text)]  # noqa: S314
    _, _, width, height = map(float, svg.get("viewBox", "").split())
    assert len(svg.findall("circle")) == len(values)
    for mark in svg.findall("circle"):
        assert 0 <= float(mark.get("cx", "")) <= width
        assert 0 <= float(mark.get("cy", "")) <= height
    rows = [t for t in svg.findall("text") if t.get("text-anchor") == "end"]
    assert len({t.text for t in rows}) == len(rows)
    assert all(7.2 * len(t.text or "") <= float(t.get("x", "")) + 1 for t in rows)


@pytest.mark.parametrize("lost", [math.nan, math.inf, None])
def test_what_is_no_number_is_left_out(lost: float | None) -> None:
    history = [{"step": i, "loss": y} for i, y in enumerate([2.0, lost, 1.0], 1)]
    _, (spec,) = part_of([training(history=history, speed=[], kept=None)])
    assert (spec["data"][0]["x"], spec["data"][0]["y"]) == ([1.0, 3.0], [2.0, 1.0])
    alone = [{"step": 1, "loss": lost}]
    assert training_part([training(history=alone, speed=[], kept=None)], Figures()) is None


def test_live_curves_are_the_history_and_later_seeds_are_pale() -> None:
    seeds = [training(seed=seed) for seed in (4, 5)]
    _, specs = part_of(seeds)
    loss = [trace for trace in specs[0]["data"] if "hovertemplate" in trace]
    rows = [record for record in seeds[0]["history"] if "loss" in record]
    named = [trace for trace in loss if trace["name"] == "training 0.375"]
    assert len(named) == 1
    assert named[0]["x"] == [record["step"] for record in rows]
    assert named[0]["y"] == [record["loss"] for record in rows]
    assert ["opacity" in trace for trace in loss] == [True, True, False, False]
    assert "seed 5" in loss[0]["hovertemplate"]


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
    return re.findall(r"<h3>(.*?)</h3>", text)


def test_a_training_shows_loss_measures_rate_norm_and_speed() -> None:
    text, _ = part_of([training()])
    assert titles(text) == [
        "Loss", "On validation", "Learning rate", "Gradient norm, before clipping",
        "Tokens per second",
    ]  # fmt: skip
    assert "training 3 at update 1, 0.375 at update 8; validation 1.5 at update 4" in text
    assert "accuracy 0.5 at update 4" in text
    assert "Dashes: update 4, whose weights were kept." in text
    assert "Over the whole training: 910." in text


def test_seeds_share_a_plot_and_controls_are_folded() -> None:
    several = [
        *(training(seed=seed) for seed in (1, 2, 3)),
        training(name="other", role="control"),
    ]
    text, _ = part_of(several)
    assert text.count("<details") == 2
    assert text.count("<details open") == 0
    assert text.count("<h3>Loss</h3>") == 2
    assert "Full colour: seed 1. Pale: seeds 2, 3." in text
    assert "other, objective classify (control)" in text


def test_numbers_are_measured_by_their_error() -> None:
    history = [{"step": 1, "loss": 1.0}, {"step": 1, "validation_loss": 1.0,
               "validation_mae": 0.5, "validation_r2": 0.1}]  # fmt: skip
    text, _ = part_of([training(objective="regress", history=history, speed=[], kept=None)])
    assert titles(text) == ["Loss", "Mean absolute error on validation", "R² on validation"]
    assert "Mean absolute error on validation: validation 0.5 at update 1" in text


def test_a_measure_has_one_name_in_curves_and_tables() -> None:
    history = [{"step": 1, "loss": 1.0}, {"step": 1, "validation_reward_accuracy": 0.75}]
    text, _ = part_of([training(objective="dpo", history=history, speed=[], kept=None)])
    assert titles(text) == ["Loss", "Chosen preferred on validation"]
    assert figure_name("reward_accuracy") == figure_name("preference_accuracy", "preference")
    assert all(figure_name(name) != name for name in ("mae", "r2", "macro_f1", "entity_f1"))


def test_a_training_without_figures_has_no_section() -> None:
    assert training_part(None, Figures()) is None
    assert training_part([], Figures()) is None
    assert training_part([training(history=[], speed=[])], Figures()) is None


def test_names_are_escaped() -> None:
    text, _ = part_of([training(name='</summary><script>alert("x")</script>')])
    assert "<script" not in text
