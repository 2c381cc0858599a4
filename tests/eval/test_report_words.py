"""What the page and the card say beside their figures: where one comes from, and what it is not."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from report_case import comparison, facts

from eval.model_card import model_card
from eval.report import report_page
from eval.report.chart import Axis, Chart, Heat, Line
from eval.report.live import live_chart, live_heat
from eval.report.still import still_chart


def part(tree: dict[str, Any], name: str) -> str:
    """The words of one section of the page."""
    page = report_page(tree, "Banking", facts())
    found = page.partition(f'<section id="{name}">')[2].partition("</section>")[0]
    assert found
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", found)).split())


def test_a_temperature_that_is_not_to_be_trusted_is_marked_on_page_and_card() -> None:
    tree = comparison()
    told = next(row["calibration"] for row in tree["arms"] if row["calibration"])
    clean = part(tree, "confidence"), model_card(tree, "Banking", facts())
    told["doubts"] = ["from 14 rows alone", "worse on the test"]
    for text, before in zip(
        (part(tree, "confidence"), model_card(tree, "Banking", facts())), clean, strict=True
    ):
        assert "1.380 (from 14 rows alone; worse on the test)" in text
        assert "from 14 rows alone" not in before


def test_thresholds_are_told_with_the_rows_they_were_chosen_on_and_what_each_seed_answers() -> None:
    tree = comparison()
    words = part(tree, "answer-or-pass-on")
    assert "on 960 rows of validation." in words
    assert "98.0 % (97.0 % to 99.0 %) 0.410" in words
    assert "Each seed ranks the items by its own; the curve is the mean of theirs." in words
    for row in tree["arms"]:
        row["seeds"] = 1
        for target in (row["selective"] or {"targets": ()})["targets"]:
            target |= {"items": 14, "coverages": [target["coverage"]]}
    words = part(tree, "answer-or-pass-on")
    assert "on 14 rows of validation: few, so that the test items may tell otherwise." in words
    assert "98.0 % 0.410" in words
    assert "seed" not in words


def test_a_precision_is_told_with_its_interval_and_what_it_leaves_undecided() -> None:
    told = part(comparison(), "answer-or-pass-on")
    assert "91.2 % (90.2 % to 92.1 %)" in told
    assert "89.0 % (88.0 % to 90.0 %), undecided 0.720 95.3 % (94.4 % to 96.1 %)" in told


def test_a_share_of_a_batch_is_not_called_waiting() -> None:
    words = part(comparison(), "ways-of-answering")
    assert "batch share (ms) 95th (ms)" in words
    assert "seconds of a batch over its items" in words
    assert "waiting" not in words


def test_notes_on_generated_text_are_those_of_the_figures_shown() -> None:
    tree = comparison()
    beside, trained = "one reference for each item", "A classifier was trained to tell real"
    words = part(tree, "generated-text")
    assert beside in words
    assert trained in words
    for told in tree["generated"]:
        told |= {"kind": "instructions", "two_sample": None}
    words = part(tree, "generated-text")
    assert "Instructions are checked by program." in words
    assert beside not in words
    assert trained not in words


def test_what_differs_and_is_not_shown_is_counted() -> None:
    tree = comparison()
    words = part(tree, "disagreements")
    assert "14 more" in words
    assert "Not shown: 636 more of these items." in words
    assert "differ on 1.8 %: the best next word does not always" in words
    tree["disagreements"] |= {"different": 20, "constrained_against_likelihood": 0.0}
    words = part(tree, "disagreements")
    assert "Not shown" not in words
    assert "differ on 0 %." in words


@pytest.mark.parametrize(
    ("ends", "ticks"), [((40, 136), ["40", "136"]), ((0.0333, 0.0666), ["0.033", "0.067"])]
)
def test_an_axis_of_rows_says_how_many_there_are(
    ends: tuple[float, float], ticks: list[str]
) -> None:
    line = Line("a", tuple((float(x), 0.5) for x in ends))
    chart = Chart("x", Axis("rows", log=True), Axis("right", percent=True), (line,))
    assert live_chart(chart)["layout"]["xaxis"]["ticktext"] == ticks
    still = still_chart(chart).text
    assert all(f">{tick}</text>" in still for tick in ticks)


@pytest.mark.parametrize(
    ("labels", "shown"), [(2, ["1", "2", "–"]), (30, ["1", "5", "10", "15", "20", "25", "30"])]
)
def test_every_column_of_a_small_heat_map_has_its_number(labels: int, shown: list[str]) -> None:
    names = tuple(map(str, range(labels)))
    heat = Heat("x", "answered", "right", names, (*names, "(no label)"), ((0, 0, 3),))
    assert live_heat(heat)["layout"]["xaxis"]["ticktext"] == shown


def test_every_way_on_the_frontier_is_named_beside_its_point() -> None:
    tree = comparison()
    page = report_page(tree, "Banking", facts())
    best = [row["arm"] for row in tree["recommendation"]["frontier"] if row["on_frontier"]]
    assert page.count('class="small halo"') == len(best) > 1


def test_training_curves_are_closed_until_asked_for() -> None:
    page = report_page(comparison(), "Banking", facts())
    training = page.partition('<section id="training">')[2].partition("</section>")[0]
    assert "<details><summary>" in training
    assert "open" not in training.replace("opens", "")
