"""What the page and the card say beside their figures: where one comes from, and what it is not."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from report_case import comparison, facts

from eval.model_card import model_card
from eval.report import report_page


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


def test_a_share_of_a_batch_is_not_called_waiting() -> None:
    words = part(comparison(), "ways-of-answering")
    assert "share of a batch, median (ms)" in words
    assert "seconds of a batch over its items" in words
    assert "waiting" not in words
