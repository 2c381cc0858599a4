"""Format `instructions`: IFEval's rows as they are published, told apart, never learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.data.arrow import read_rows
from pipeline.data.detection import detect
from pipeline.data.misfits import form_problem
from pipeline.first_recipe_rows import look
from tests.data.format_case import made, refused
from tests.data.preparing import prepare, tiny_base


def published(**more: Any) -> dict[str, Any]:
    """As google/IFEval's table has them: every key in every object, nulls, and fractions."""
    return {
        "key": 1000,
        "prompt": "Name a fruit in at most five words, without commas.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [
            {"num_words": None, "relation": None, "keywords": None},
            {"num_words": 6.0, "relation": "less than", "keywords": None},
        ],
        **more,
    }


def test_a_published_row_becomes_a_question_and_what_its_answer_is_checked_by() -> None:
    asked, checks = made("instructions", published())["messages"]
    assert asked == {"role": "user", "content": published()["prompt"]}
    assert json.loads(checks["content"]) == {
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, {"num_words": 6, "relation": "less than"}],
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": None}, "prompt is null"),
        ({"kwargs": [{}]}, "kwargs are not one object for each of 2 instructions"),
        ({"instruction_id_list": "a"}, "instruction_id_list is no list of names"),
        ({"instruction_id_list": ["sing", "dance"]}, "no instruction 'sing'"),
        ({"kwargs": [{}, {"num_words": 6}]}, "needs relation (less than or at least)"),
        ({"kwargs": [{}, {"num_words": 6.5, "relation": "at least"}]},
         "length_constraints:number_words needs num_words (a whole number)"),
        ({"kwargs": [3, {}]}, "kwargs hold a number, not an object"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["a", ""]}]},
         "keywords:existence needs keywords (a list of words)"),
        ({"instruction_id_list": ["startend:end_checker"], "kwargs": [{"end_phrase": " "}]},
         "startend:end_checker needs end_phrase (text)"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_checked_is_refused_with_its_reason(
    change: dict[str, Any], words: str
) -> None:
    assert words in refused("instructions", published(**change))


def test_such_rows_are_known_by_their_columns() -> None:
    found = detect([published(key=i) for i in range(20)], "data.test: x.jsonl")
    assert (found.form, dict(found.columns), found.fit) == ("instructions", {}, 20)


def test_such_rows_are_asked_and_never_learned() -> None:
    for key in ("data.train", "data.train.1", "data.validation"):
        problem = form_problem("sft", "sft", key, "instructions")
        assert problem is not None
        assert "name them under evaluate.suites" in problem
    assert form_problem("sft", "sft", "data.test", "instructions") is None


def test_what_an_answer_is_checked_by_is_read_by_no_model(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    words = {"keywords": [f"word{i}" for i in range(200)]}
    rows = [
        published(),
        published(instruction_id_list=["keywords:existence"], kwargs=[words]),
    ]
    # Two hundred words would not fit into the context of 256 tokens that the base has.
    dataset, _ = prepare(
        tmp_path / "data", base, {"test": rows}, source={"format": "instructions"}, render="sft"
    )  # fmt: skip
    for row, given in zip(read_rows(dataset.path / "test.arrow"), rows, strict=True):
        assert len(row["input_ids"]) == row["prompt"] == len(row["supervised"])
        assert row["text"] == given["prompt"]
        assert json.loads(row["label"])["instruction_id_list"] == given["instruction_id_list"]


def test_a_first_recipe_is_not_made_of_rows_without_answers(tmp_path: Path) -> None:
    path = tmp_path / "ifeval.jsonl"
    path.write_text("\n".join(json.dumps(published(key=i)) for i in range(60)), encoding="utf-8")
    with pytest.raises(UserError, match=r"hold none to learn from; .* under evaluate\.suites"):
        look(path)
