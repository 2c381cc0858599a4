"""Checks of instructions: lm-evaluation-harness's own verdicts, and the four figures of IFEval."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from eval.metrics import label_figures
from eval.record import Prediction
from eval.text.checkers import CHECKERS, follows
from eval.text.instructions import (
    FOLLOWED,
    NOT_FOLLOWED,
    Checks,
    followed,
    instruction_figures,
    is_instructions,
    loosened,
)
from pipeline.core.errors import DataError
from pipeline.data.formats.instructions import CHECKED
from tests.eval.text.ifeval_cases import EACH, cases

VERDICTS = json.loads(Path(__file__).with_name("ifeval_verdicts.json").read_text(encoding="utf-8"))


def row(name: str, *checks: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    tree = {"instruction_id_list": [n for n, _ in checks], "kwargs": [told for _, told in checks]}
    return {"example_id": name, "label": json.dumps(tree)}


def answer(name: str, text: str | None) -> Prediction:
    return Prediction(name, "", None, None, text, 0.1, 5, 5)


COMMA = ("punctuation:no_comma", {})
QUOTED = ("startend:quotation", {})
ROWS = [row("a", COMMA, QUOTED), row("b", COMMA), row("c", QUOTED)]
ANSWERS = [answer("a", '"yes"'), answer("b", "yes, and\nno"), answer("c", "none")]


def test_every_instruction_that_can_be_read_can_be_checked_and_no_other() -> None:
    assert CHECKERS.keys() == CHECKED.keys()
    assert len(CHECKED) == 25


@pytest.mark.parametrize("how", ["strict", "loose"])
def test_verdicts_are_those_of_lm_evaluation_harness(how: str) -> None:
    """Recorded from lm_eval 0.4.13's own checks by ifeval_record.py, which says how to repeat it.

    2,500 synthetic answers near the border of right and wrong, both strictly and loosely. With
    langdetect for the language and Punkt's English model for sentences there.
    """
    ours: dict[str, str] = defaultdict(str)
    for name, told, text in cases():
        ours[name] += str(int(getattr(Checks((name,), (told,)), how)(text)[0]))
    assert ours == VERDICTS[how]
    assert all("0" in digits and "1" in digits for digits in ours.values())
    assert {len(digits) for digits in ours.values()} == {EACH}


def test_a_text_without_words_follows_nothing() -> None:
    assert not follows("punctuation:no_comma", {}, " \n")
    assert not follows(
        "length_constraints:number_words", {"num_words": 5, "relation": "less than"}, ""
    )


def test_signs_in_what_was_told_are_no_patterns() -> None:
    assert follows("keywords:existence", {"keywords": ["C++", "(a"]}, "c++ and (a")
    assert not follows("keywords:existence", {"keywords": ["a.c"]}, "abc")


def test_the_eight_loose_forms_are_ifevals() -> None:
    assert loosened("*a*\nb\n*c*") == [
        "*a*\nb\n*c*", "b\n*c*", "*a*\nb", "b", "a\nb\nc", "b\nc", "a\nb", "b",
    ]  # fmt: skip


def test_the_four_figures_are_those_of_ifeval() -> None:
    found = instruction_figures(ROWS, ANSWERS)
    assert (found["prompts"], found["instructions"]) == (3, 4)
    assert found["prompt_strict"]["estimate"] == pytest.approx(1 / 3)
    # Without its first line the second answer holds no comma.
    assert found["prompt_loose"]["estimate"] == pytest.approx(2 / 3)
    assert found["instruction_strict"]["estimate"] == pytest.approx(2 / 4)
    assert found["instruction_loose"]["estimate"] == pytest.approx(3 / 4)
    assert found["by_kind"]["punctuation:no_comma"] == {"items": 2, "strict": 0.5}
    assert found["prompt_strict"]["low"] < 1 / 3 < found["prompt_strict"]["high"]


def test_a_thought_before_the_answer_is_not_checked() -> None:
    thought = [answer("b", "well, yes</think>no")]
    assert instruction_figures([ROWS[1]], thought)["prompt_strict"]["estimate"] == 0
    found = instruction_figures([ROWS[1]], thought, after="</think>")
    assert found["prompt_strict"]["estimate"] == 1


def test_answers_as_a_task_have_the_strict_accuracy_of_prompts() -> None:
    task = followed(ROWS, ANSWERS)
    assert [p.label for p in task] == [FOLLOWED, NOT_FOLLOWED, NOT_FOLLOWED]
    assert {p.gold for p in task} == {FOLLOWED}
    strict = instruction_figures(ROWS, ANSWERS)["prompt_strict"]["estimate"]
    assert label_figures(task)["accuracy"] == pytest.approx(strict)


def test_rows_are_known_as_instructions_by_what_they_hold() -> None:
    assert is_instructions(ROWS)
    assert not is_instructions([*ROWS, {"example_id": "d", "label": "card"}])
    assert not is_instructions([])
    with pytest.raises(DataError, match="d: holds no instructions to check"):
        Checks.of({"example_id": "d", "label": "card"})


def test_an_unknown_instruction_is_refused() -> None:
    with pytest.raises(DataError, match="'sing': cannot be checked; use one of keywords:existence"):
        follows("sing", {}, "la")
