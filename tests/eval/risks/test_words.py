"""Rules that read words: support, abstention, refusal, swaps, typing errors, dates."""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from eval.record import Prediction
from eval.risks.misuse import misuse_lines, refuses
from eval.risks.robustness import CHANGES, typos
from eval.risks.swaps import Swap, _line, read_swaps, swapped
from eval.risks.timeliness import dates_of, timeliness_lines
from eval.risks.untrue import INSTRUCTION, abstains, supported, untrue_lines
from pipeline.core.errors import DataError
from tests.eval.risks.voices import Said

TATQA = Path(__file__).resolve().parents[4] / "shared" / "data" / "tatqa_finance"


@pytest.mark.parametrize(
    ("answer", "context", "holds"),
    [
        ("The Fixed Price", "Sales are fixed price, mostly", True),
        ("fixed", "a prefixed price", False),
        ("$1,496.5 million", "Total sales | $1,496.5 | $1,202.9", True),
        ("1496.5", "Total sales | $1,496.5", True),
        ("1,496.5 and 12", "Total sales | $1,496.5", False),
        ("96.5", "Total sales | $1,496.5", False),
        ("cash", "", False),
        ("上海", "总部在上海市", True),
        ("北京", "总部在上海市", False),
    ],
)
def test_an_answer_is_supported_by_its_words_or_by_all_its_numbers(
    answer: str, context: str, holds: bool
) -> None:
    assert supported(answer, context) is holds


@pytest.mark.parametrize("answer", ["", "Not in the text.", "It cannot be determined", "未提及"])
def test_what_says_that_there_is_no_answer_abstains(answer: str) -> None:
    assert abstains(answer)


@pytest.mark.parametrize("answer", ["12.5", "notably higher", "the known assets"])
def test_what_answers_does_not_abstain(answer: str) -> None:
    assert not abstains(answer)


def questions(tmp_path: Path, count: int) -> Path:
    rows = [
        {"question": f"What is value {n}?", "context": f"Value {n} is {n}00.", "answer": f"{n}00"}
        for n in range(count)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_model_that_copies_its_context_is_supported_and_never_abstains(tmp_path: Path) -> None:
    copies = Said(writes=lambda question: question.split("\n")[0])
    wrong, abstained = untrue_lines(questions(tmp_path, 30), copies, 20, 0)
    assert (wrong.value, wrong.n) == (0.0, 20)
    assert (abstained.value, abstained.n) == (0.0, 20)


def test_a_model_that_makes_things_up_is_told(tmp_path: Path) -> None:
    wrong, abstained = untrue_lines(questions(tmp_path, 9), Said(lambda _: "77777"), 20, 0)
    assert wrong.value == 1.0
    assert abstained.value == 0.0
    wrong, abstained = untrue_lines(questions(tmp_path, 9), Said(lambda _: "not in the text"), 9, 0)
    assert wrong.why == "it abstained from all 9 questions"
    assert abstained.value == 1.0


def test_an_absent_answer_is_asked_where_it_does_not_stand(tmp_path: Path) -> None:
    asked: list[str] = []

    def note(question: str) -> str:
        asked.append(question)
        return "not in the text"

    untrue_lines(questions(tmp_path, 25), Said(note), 25, 0)
    own, other = asked[:25], asked[25:]
    assert all(INSTRUCTION in question for question in asked)
    numbers = [(q.split()[1], q.split("What is value ")[1].split("?")[0]) for q in other]
    assert all(context != question for context, question in numbers)
    assert all(q.split()[1] == q.split("What is value ")[1].split("?")[0] for q in own)


def test_questions_that_fit_no_context_are_not_measured(tmp_path: Path) -> None:
    wrong, _ = untrue_lines(questions(tmp_path, 4), Said(longest=10), 4, 0)
    assert wrong.why == "none of 4 questions fits the model's context"


@pytest.mark.skipif(not TATQA.is_dir(), reason="the shared data sets are not beside the checkout")
def test_gold_answers_of_real_spans_are_supported_and_computed_ones_often_not() -> None:
    lines = (TATQA / "qa_test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    held = {
        kind: [supported(r["answer"], r["context"]) for r in rows if r["answer_type"] == kind]
        for kind in ("span", "arithmetic")
    }
    assert sum(held["span"]) / len(held["span"]) > 0.95
    assert sum(held["arithmetic"]) / len(held["arithmetic"]) < 0.2


@pytest.mark.parametrize(
    "answer", ["I can’t help with that.", "I'm sorry, but no.", "As an AI, I", "抱歉，我不能"]
)
def test_words_of_refusal_refuse(answer: str) -> None:
    assert refuses(answer)


def test_help_is_no_refusal_and_late_words_do_not_count(tmp_path: Path) -> None:
    assert not refuses("Sure, here is how.")
    assert not refuses("x" * 300 + " I'm sorry")
    path = tmp_path / "harmful.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "bb"}\n')
    said = Said(lambda question: "I cannot do that" if question == "a" else "Sure")
    (line,) = misuse_lines(path, said, 10, 0)
    assert (line.value, line.n) == (0.5, 2)


def test_swaps_exchange_whole_words_both_ways_in_their_own_case() -> None:
    pairs = [("he", "she"), ("James", "Mary")]
    assert swapped("He saw James and she, the HEro; SHE", pairs) == (
        "She saw Mary and he, the HEro; HE"
    )
    assert swapped("王先生来了", [("先生", "女士")]) == "王女士来了"


@pytest.mark.parametrize(
    "row", [{"what": "x"}, {"what": "x", "swap": []}, {"what": "x", "swap": [["a"]]},
            {"what": "x", "say": ["a", ""]}, {"what": "x", "say": ["a", "b"], "swap": [["a", "b"]]}]
)  # fmt: skip
def test_a_swap_that_says_nothing_or_too_much_is_refused(row: object, tmp_path: Path) -> None:
    path = tmp_path / "swaps.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=r'swaps.jsonl: x: write "swap": \[\["he", "she"\], ...\]'):
        read_swaps(path)


def test_typing_errors_follow_their_seed_and_are_few() -> None:
    text = "Where is my card? I have been waiting for two weeks now, and nobody answers."
    once, twice = (typos(text, random.Random(5)) for _ in range(2))
    assert once == twice != text
    assert abs(len(once) - len(text)) <= 0.05 * len(text) + 1
    assert typos("42 %", random.Random(0)) == "42 %"


def test_every_change_keeps_the_text_inside() -> None:
    rng = random.Random(0)
    for name in ("other phrasing", "long input"):
        assert "my {card}" in CHANGES[name][0]("my {card}", rng)


@pytest.mark.parametrize(
    ("text", "day"),
    [("on 2024-05-31.", "2024-05-31"), ("the 31st, 31 May 2024", "2024-05-31"),
     ("Sept. 3, 2021", None), ("Sep 3, 2021", "2021-09-03"), ("2023年7月9日", "2023-07-09"),
     ("2024-13-45", None), ("call 2024-05-311", None), ("in 2024", None)],
)  # fmt: skip
def test_whole_dates_are_read_and_others_are_not(text: str, day: str | None) -> None:
    found = [date.isoformat() for date in dates_of(text)]
    assert found == ([] if day is None else [day])


def test_the_newest_date_is_no_later_than_the_day_of_preparation() -> None:
    today = datetime.date(2025, 1, 1)
    (line,) = timeliness_lines(["1 May 2020", "2024-02-03", "2031-01-01", "none"], today)
    assert line.shown == (
        "2024-02-03; of half of the 2 rows with a date it is 2020-05-01 or older (n = 4 rows)"
    )
    (line,) = timeliness_lines(["2031-01-01", "none"], today)
    assert line.why == "no whole date stands in its 2 rows"


def test_a_swap_counts_changed_answers_and_passes_over_what_is_no_label() -> None:
    class Texts:
        """Four texts of a suite, of which one holds no word of the swap."""

        name, refusal, rows, clusters = "test", None, (1, 2, 3, 4), None
        texts: ClassVar = ["he ran", "she ran", "it ran", "he sat"]

        def only(self, indices: Sequence[int]) -> Texts:
            return self

        def fits(self, text: str, most: int | None) -> bool:
            return most is None or len(text) <= most

        def reworded(self, texts: Sequence[str]) -> Sequence[str]:
            return texts

    def answer(texts: Any) -> list[Prediction]:
        # "he ran" is answered otherwise than "she ran", both sentences with "sat" by no label.
        labels = [None if "sat" in t else "a" if t == "he ran" else "b" for t in texts]
        return [Prediction("x", "a", label, None, None, 0.0, 1, 1) for label in labels]

    suite: Any = Texts()
    line = _line(suite, Swap("gender", (("he", "she"),)), answer, "what")
    assert (line.value, line.n) == (1.0, 2)
    assert "applies to 3 of 4 asked texts, 0 of them left out as longer" in (line.how or "")
    assert "and 1 because neither answer was a label" in (line.how or "")
    # One version of each is a letter too long, whichever of the two it is.
    line = _line(suite, Swap("gender", (("he", "she"),)), answer, "what", most=6)
    assert line.why == "none of the 3 texts that it applies to fits the model's context"
