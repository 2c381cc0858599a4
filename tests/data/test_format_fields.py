"""Columns, ids, kept columns and prompts: what a converter takes from a row, and how."""

from __future__ import annotations

import datetime
import json
import pickle
from decimal import Decimal
from typing import Any

import pytest

from pipeline.core.errors import DataError
from pipeline.data.formats import FIELDS, PROMPTED, converter
from pipeline.data.rows import Row, row_text
from tests.data.format_case import ASKED, assistant, made, refused, system, user


def test_a_mapped_column_is_read_under_its_name_and_no_other() -> None:
    row = {"headline": "a", "kind": "b", "text": "other"}
    columns = {"text": "headline", "label": "kind"}
    assert made("classification", row, columns=columns) == {"text": "a", "label": "b"}
    del row["headline"]
    assert refused("classification", row, columns=columns) == "no column 'headline'"


@pytest.mark.parametrize(
    ("form", "row", "reason"),
    [
        ("text", {"text": "a\0b"}, "text holds a NUL character"),
        ("text", {"id": "1\0", "text": "a"}, "id holds a NUL character"),
        ("classification", {"text": "a", "label": "b\0"}, "label holds a NUL character"),
        ("messages", {"messages": [user("\0"), assistant()]}, "a NUL character"),
        ("messages", {"messages": ASKED, "tools": [{"name": "f", "a\0": 1}]}, "a NUL character"),
        ("question_answer", {"question": "hi", "answer": ["\0"]}, "answer holds a NUL character"),
    ],
)
def test_a_nul_is_refused_wherever_it_stands(form: str, row: Row, reason: str) -> None:
    # JSON may escape what no line of a file may hold.
    assert reason in refused(form, json.loads(json.dumps(row)))


def test_several_answers_are_told_beside_what_the_recipe_keeps() -> None:
    row = {"question": "hi", "answers": {"text": ["yes", "no", "yes"]}, "group": "g"}
    found = made("question_answer", row, columns={"answer": "answers.text"}, keep=("group",))
    assert found == {"messages": ASKED, "meta": {"answers": 2, "group": "g"}}


def test_columns_may_be_swapped_and_reach_into_objects() -> None:
    swapped = made("classification", {"text": "a", "label": "b"},
                   columns={"text": "label", "label": "text"})  # fmt: skip
    assert swapped == {"text": "b", "label": "a"}
    row = {"question": "hi", "answers": {"text": ["yes"], "answer_start": [0]}}
    assert made("question_answer", row, columns={"answer": "answers.text"}) == {"messages": ASKED}
    assert refused("text", row, columns={"text": "answers.words"}) == "no column 'answers.words'"
    dotted = {"a.b": "whole name", "a": {"b": "path"}}
    assert made("text", dotted, columns={"text": "a.b"}) == {"text": "whole name"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("x1", {"id": "x1"}), (7, {"id": "7"}), ("", {}), (None, {}), (True, {}), (1.5, {}), ([], {})],
)
def test_an_own_id_is_kept_as_text(value: Any, expected: Row) -> None:
    assert made("text", {"text": "a", "id": value}) == {**expected, "text": "a"}


def test_an_id_under_another_name_is_no_id() -> None:
    assert "id" not in made("text", {"text": "a", "id": 7}, columns={"source_id": "id"})
    assert made("text", {"text": "a", "number": 7}, columns={"id": "number"})["id"] == "7"


def test_kept_columns_stand_in_meta_as_json_can_hold_them() -> None:
    row = {"text": "a", "doc": 3, "when": datetime.date(2024, 5, 1), "price": Decimal("1.50")}
    kept = made("text", row, keep=("doc", "day", "price"), columns={"day": "when"})
    assert kept["meta"] == {"doc": 3, "day": "2024-05-01", "price": "1.50"}
    assert refused("text", {"text": "a"}, keep=("doc",)) == "no column 'doc'"
    assert refused("text", {"text": "a", "doc": None}, keep=("doc",)) == "doc is null"
    assert "no form for" in refused("text", {"text": "a", "doc": b"x"}, keep=("doc",))


PROMPTS: list[tuple[str, str, Row, Row]] = [
    ("text", "{title}\n\n{text}", {"title": "T", "text": "a"},
     {"text": "T\n\na", "source_text": "a"}),
    ("text", "{n}: {title}", {"title": "T", "n": 3},
     {"text": "3: T", "source_text": "3\nT"}),
    ("classification", "Which? {text}", {"text": "a", "label": "b"},
     {"text": "Which? a", "source_text": "a", "label": "b"}),
    ("question_answer", "{context} Q: {question}",
     {"context": "c", "question": "hi", "answer": "yes"},
     {"messages": [user("c Q: hi"), assistant()], "source_text": "c\n\nhi"}),
    ("question_answer", "{question} {choices}",
     {"question": "Who?", "choices": ["Ann", "Bo"], "answer": 0},
     {"messages": [user("Who? A. Ann\nB. Bo"), assistant("Ann")],
      "source_text": "Who?\nA. Ann\nB. Bo"}),
    ("question_answer", "{claim}?", {"claim": "hi", "answer": "yes"},
     {"messages": [user("hi?"), assistant()], "source_text": "hi"}),
    ("prompt_completion", "Say: {prompt}", {"prompt": "hi", "completion": "yes"},
     {"messages": [user("Say: hi"), assistant()], "source_text": "hi"}),
    ("prompt_completion", "Say {n}", {"prompt": [system(), user()], "completion": "yes", "n": 1},
     {"messages": [system(), user("Say 1"), assistant()], "source_text": "hi"}),
    ("alpaca", "Do: {instruction}", {"instruction": "Sort.", "input": "b", "output": "yes"},
     {"messages": [user("Do: Sort."), assistant()], "source_text": "Sort.\n\nb"}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "prompt", "row", "expected"), PROMPTS)
def test_a_prompt_fills_the_users_turn_and_does_not_hide_the_rows_own_text(
    form: str, prompt: str, row: Row, expected: Row
) -> None:
    canonical = made(form, row, prompt=prompt)
    assert canonical == expected
    if "source_text" in expected:
        assert row_text(canonical) == expected["source_text"]


def test_a_prompt_knows_columns_by_both_names() -> None:
    row = {"body": "a", "kind": "b"}
    columns = {"text": "body", "label": "kind"}
    for prompt in ("<{text}>", "<{body}>"):
        assert made("classification", row, columns=columns, prompt=prompt)["text"] == "<a>"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "a"}, "prompt names {title}, which the row does not have"),
        ({"text": "a", "title": None}, "prompt names {title}, which is null"),
        ({"text": "a", "title": ["b"]}, "prompt names {title}, which is a list"),
        ({"text": "a", "title": "\udfff"}, "title holds a lone surrogate"),
        ({"text": "a", "title": " "}, "the filled prompt is empty"),
    ],
)
def test_a_prompt_that_a_row_cannot_fill_refuses_the_row(row: Row, words: str) -> None:
    assert refused("text", row, prompt="{title}") == words


def test_a_prompt_where_turns_are_given_is_one_line_for_the_user() -> None:
    for form in set(FIELDS) - PROMPTED:
        with pytest.raises(DataError, match=f"^prompt: format {form} has turns of its own"):
            converter(form, columns={}, prompt="{x}", keep=())
    with pytest.raises(DataError, match="no such format; use one of text, messages"):
        converter("xml", columns={}, prompt=None, keep=())


@pytest.mark.parametrize("form", FIELDS)
def test_a_converter_goes_to_a_worker_and_back(form: str) -> None:
    prompt = "{text}" if form in PROMPTED else None
    there = converter(form, columns={"text": "body"}, prompt=prompt, keep=("doc",))
    assert pickle.loads(pickle.dumps(there)) == there  # noqa: S301


def test_deep_nesting_is_a_reason_and_no_crash() -> None:
    deep: Any = []
    for _ in range(20_000):
        deep = [deep]
    assert refused("text", {"text": "a", "doc": deep}, keep=("doc",)) == "nested too deeply"
    assert refused("messages", {"messages": ASKED, "tools": deep}) == "nested too deeply"
