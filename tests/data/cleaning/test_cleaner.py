"""The whole of cleaning: order, counts, idempotence, labels."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.core.schema_data import Clean
from pipeline.data.cleaning import Cleaned, Cleaner, describe
from pipeline.data.rows import Row, texts_of

SHARED = Path(__file__).resolve().parents[4] / "shared/data"
ALL: dict[str, Any] = {
    "unicode": "NFKC",
    "html": True,
    "control_characters": True,
    "damaged": "remove",
    "whitespace": True,
    "personal_data": "redact",
}


def cleaner(**keys: Any) -> Cleaner:
    return Cleaner(Clean(**keys).model_dump())


def chat(*contents: str) -> Row:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    return {"id": "1", "messages": turns}


FRAGMENTS = st.lists(
    st.sampled_from(
        ["<b>", "</b>", "<br>", "&lt;", "&amp;", "lt;", " #39;", "<", ">", "b", "`", "```", "\n",
         "  ", "\x00", "\u200b", "\u200d", "\ufffd", "e\u0301", "＜b＞", "ﬁ", "a@b.com", "@",
         "4111111111111111", "1", "38", "00138000", "中", "{{name}}", "[1]", "<script>",
         "</script>", "x y z. ", "．", "\xa0"]
    ),
    max_size=14,
).map("".join)  # fmt: skip
ROWS = st.one_of(
    st.builds(lambda text: {"id": "1", "text": text}, FRAGMENTS | st.text()),
    st.builds(lambda text: {"id": "1", "text": text, "label": " A&amp;B "}, FRAGMENTS | st.text()),
    st.builds(chat, FRAGMENTS, FRAGMENTS | st.text(), FRAGMENTS),
)
CLEANERS = [
    cleaner(**ALL),
    cleaner(**ALL, quality=["c4"], min_characters=3, unfilled_fields="drop"),
]
CLEANERS += [cleaner(html=True), cleaner(whitespace=True, control_characters=True)]


@settings(max_examples=300, deadline=None)
@given(ROWS, st.sampled_from(CLEANERS))
def test_cleaning_twice_is_cleaning_once(row: Row, clean: Cleaner) -> None:
    given_row = copy.deepcopy(row)
    first = clean(row)
    assert row == given_row
    assert (first.row is None) != (first.dropped is None)
    if first.row is not None:
        again = clean(first.row)
        assert again.row == first.row
        assert again.dropped is None
        assert again.changed == ()
        assert first.row.get("label") == row.get("label")
        assert first.changed or first.row is row


@given(ROWS)
def test_nothing_asked_for_changes_nothing(row: Row) -> None:
    result = cleaner()(row)
    assert result.row is row
    assert result.changed == ()
    assert set(result.found) <= {"damaged", "unfilled_fields"}


def test_steps_run_in_order_and_are_named_in_it() -> None:
    row = {
        "id": "1",
        "text": "e\u0301 &amp;lt;b&amp;gt;x&#32;&lt;/b&gt;\x07\ufffd  a@b.com",
        "label": "l",
    }
    assert cleaner(**ALL)(row) == Cleaned(
        {"id": "1", "text": "é x <EMAIL_ADDRESS>", "label": "l"},
        None,
        ("unicode", "html", "control_characters", "damaged", "whitespace", "personal_data"),
        (),
    )


def test_what_a_reference_hides_is_cleaned_too() -> None:
    result = cleaner(html=True, control_characters=True, unicode="NFC")(
        chat("e&#x301;&#xfeff;!", "x")
    )
    assert result.row == chat("é!", "x")


def test_every_text_of_a_row_is_cleaned_and_nothing_else() -> None:
    row = {
        "id": "1",
        "messages": [
            {"role": "system", "content": "a  b"},
            {"role": "user", "content": "c  d", "train": False},
            {"role": "assistant", "content": "", "reasoning_content": "e  f",
             "tool_calls": [{"x": "g  h"}]},
        ],
        "chosen": {"role": "assistant", "content": "i  j"},
        "rejected": {"role": "assistant", "content": "k  l"},
        "source_text": "m  n",
        "label": "o  p",
        "meta": {"q": "r  s"},
    }  # fmt: skip
    result = cleaner(whitespace=True)(row)
    assert result.row is not None
    assert list(texts_of(result.row)) == ["a b", "c d", "", "e f", "i j", "k l"]
    assert result.row["source_text"] == "m n"
    kept = {key: result.row[key] for key in ("label", "meta")}
    assert kept == {"label": "o  p", "meta": {"q": "r  s"}}
    assert result.row["messages"][2]["tool_calls"] == [{"x": "g  h"}]


@pytest.mark.parametrize(
    ("keys", "row", "reason"),
    [
        ({"html": True}, chat("hi", "<br>"), "html: a text is left empty"),
        ({"whitespace": True}, {"id": "1", "text": " \n "}, "whitespace: a text is left empty"),
        ({"damaged": "drop"}, {"id": "1", "text": "a\ufffdb\ufffd"}, "damaged: 2 lost characters"),
        ({"unfilled_fields": "drop"}, chat("who?", "I am {{name}}."), "unfilled_fields: {{name}}"),
        ({"personal_data": "drop"}, chat("a@b.com", "4111 1111 1111 1111"),
         "personal_data: CREDIT_CARD, EMAIL_ADDRESS"),
        ({"min_characters": 5}, chat("ab", "cd"), "min_characters: 4"),
        ({"max_characters": 3}, chat("ab", "cd"), "max_characters: 4"),
        ({"quality": "gopher"}, {"id": "1", "text": "a b c"}, "quality: gopher: 3 words"),
        ({"quality": "c4"}, {"id": "1", "text": "Menu"}, "quality: c4: 0 sentences, fewer than 3"),
        ({"html": True}, {"id": "1", "text": "<" * 40 + "b>" * 40},
         "html: markup nested more than 20 deep"),
    ],
)  # fmt: skip
def test_a_row_is_dropped_with_its_reason(keys: dict[str, Any], row: Row, reason: str) -> None:
    result = cleaner(**keys)(row)
    assert result.row is None
    assert result.dropped == reason


def test_a_reason_never_holds_the_personal_data() -> None:
    reason = cleaner(personal_data="drop")(chat("write a@b.com", "x")).dropped
    assert reason == "personal_data: EMAIL_ADDRESS"


def test_what_is_only_reported_stays() -> None:
    row = chat("I am {{name}}\ufffd, a@b.com", "ok")
    result = cleaner(personal_data="report")(row)
    assert result == Cleaned(row, None, (), ("damaged", "unfilled_fields", "personal_data"))
    assert result.row is row


def test_personal_data_in_a_tool_call_is_told_and_kept() -> None:
    row = chat("call him", "done")
    call = {"function": {"name": "call", "arguments": {"to": ["+44 20 7946 0958"], "times": 3}}}
    row["messages"][1]["tool_calls"] = [call]
    assert cleaner(personal_data="redact")(row).found == ("personal_data: in a tool call",)
    assert cleaner(personal_data="drop")(row).dropped == "personal_data: PHONE_NUMBER"


def test_pages_are_judged_and_short_answers_are_not() -> None:
    clean = cleaner(quality=["gopher", "c4"])
    for row in (chat("List two.", "- a\n- b"), {"id": "1", "text": "short", "label": "x"}):
        assert clean(row) == Cleaned(row, None, (), ())
    assert clean({"id": "1", "text": "short"}).dropped == "quality: gopher: 1 words"


def test_lines_that_c4_takes_out_count_as_a_change() -> None:
    text = "One two three four five.\nMenu\nSix seven eight nine ten.\nA b c d e."
    result = cleaner(quality="c4")({"id": "1", "text": text})
    assert result.row == {"id": "1", "text": text.replace("Menu\n", "")}
    assert result.changed == ("quality: c4",)


def test_what_c4_leaves_is_judged_again() -> None:
    text = "One two three.\nA b c d e. F g h i j. K l m n o."
    result = cleaner(quality="c4", min_characters=40)({"id": "1", "text": text})
    assert result.dropped == "min_characters: 32"


def test_language_drops_and_counts_what_it_cannot_judge() -> None:
    clean = cleaner(language={"keep": ["en"]})
    german = chat("Wie spät ist es denn jetzt eigentlich?", "Es ist schon kurz nach zwölf Uhr.")
    reason = clean(german).dropped
    assert reason is not None
    assert reason.startswith("language: de ")
    assert clean(chat("Hallo", "Guten Tag")).found == ("language: too short to judge",)


def test_a_pickled_cleaner_cleans_the_same() -> None:
    clean = cleaner(**ALL, language="en")
    row = chat("Write to a@b.com about the weather in London", "I  have written to a@b.com now")
    assert pickle.loads(pickle.dumps(clean))(row) == clean(row)  # noqa: S301
    assert pickle.loads(pickle.dumps(clean(row))) == clean(row)  # noqa: S301


def test_an_unknown_entity_or_language_stops_the_run() -> None:
    with pytest.raises(DataError, match="PERSON is not offered"):
        cleaner(personal_data={"entities": ["PERSON"]})
    with pytest.raises(DataError, match="english is not known"):
        cleaner(language="english")(chat("a text that is long enough", "to be judged"))


def test_describe_has_one_line_for_each_step_in_order() -> None:
    keys = {**ALL, "min_characters": 1, "max_characters": 9, "language": "en"}
    lines = describe(Clean(**keys, quality=["gopher", "c4"]).model_dump())
    assert [line.split(":")[0] for line in lines] == [
        "unicode", "html", "control_characters", "damaged", "whitespace", "unfilled_fields",
        "personal_data", "min_characters", "max_characters", "language", "quality", "quality",
    ]  # fmt: skip
    assert [line.split(":")[0] for line in describe(Clean().model_dump())] == [
        "damaged",
        "unfilled_fields",
    ]


@pytest.mark.parametrize("name", ["ag_news/test_small.jsonl", "banking77/test.jsonl"])
def test_real_rows_settle(name: str) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"needs {name}")
    clean = cleaner(**ALL)
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:1000]
    results = [clean(row) for row in rows]
    assert all((result.row is None) != (result.dropped is None) for result in results)
    kept = [result.row for result in results if result.row is not None]
    assert [clean(row).row for row in kept] == kept
    assert len(kept) == len(rows)
