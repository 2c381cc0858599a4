"""When two open answers are the same answer."""

from __future__ import annotations

import pytest

from eval.answers import final_answer, normalised_answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Bank of England.", "bank of england"),
        ("$1,200.50", "$1200.50"),
        ("  net income ", "Net income!"),
        ("a 12% rise", "12% rise"),
        ("２０１９", "2019"),
    ],
)
def test_same_answer_in_other_dress(one: str, other: str) -> None:
    assert normalised_answer(one) == normalised_answer(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("12.5", "125"), ("-3", "3"), ("12%", "12"), ("2019", "2018"), ("1,2", "12"), ("$5", "€5")],
)
def test_other_answers_stay_apart(one: str, other: str) -> None:
    assert normalised_answer(one) != normalised_answer(other)


def test_the_answer_stands_after_the_last_marker() -> None:
    text = "The answer is: 3? No. The answer is: 4"
    assert final_answer(text, "The answer is:").strip() == "4"
    assert final_answer("4", "The answer is:") == "4"
    assert final_answer("4", None) == "4"
