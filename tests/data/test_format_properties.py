"""Whatever JSON a row holds: a canonical row comes of it, or a reason, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.data.formats import FIELDS, PROMPTED, converter
from pipeline.data.rows import ROLES, Row, RowProblem

CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"city": "Ulm"}}}


def made(form: str, row: Mapping[str, Any], **settings: Any) -> Row:
    given_: dict[str, Any] = {"columns": {}, "prompt": None, "keep": (), **settings}
    return converter(form, **given_)(dict(row))


# A validator of its own, written from the words of pipeline/data/rows.py.
def require_canonical(row: Row) -> None:
    assert json.loads(json.dumps(row, ensure_ascii=False).encode()) == row
    known = {"id", "text", "messages", "tools", "chosen", "rejected", "label", "labels",
             "source_text", "meta", "entities", "value"}  # fmt: skip
    assert set(row) <= known
    assert ("text" in row) != ("messages" in row)
    assert all(isinstance(row.get(name, "x"), str) and row.get(name, "x").strip()
               for name in ("id", "text", "label", "source_text"))  # fmt: skip
    assert row.get("labels", []) == sorted(set(row.get("labels", [])))
    assert not {"label", "labels"} <= set(row)
    assert ("chosen" in row) == ("rejected" in row)
    assert isinstance(row.get("value", 0.0), float)
    end = 0
    for entity in row.get("entities", ()):
        assert set(entity) == {"start", "end", "label"}
        assert end <= entity["start"] < entity["end"] <= len(row["text"])
        assert row["text"][entity["start"] : entity["end"]].strip()
        assert entity["label"].strip()
        end = entity["end"]
    if "messages" in row:
        require_conversation(row)


def require_conversation(row: Row) -> None:
    turns = row["messages"]
    letters = "".join({"system": "s", "user": "u", "assistant": "a", "tool": "t"}[turn["role"]]
                      for turn in turns)  # fmt: skip
    assert not re.search("uu|aa|tu|ut|.s|^[at]|^s[at]|^s?$", letters)
    for number, turn in enumerate(turns):
        require_turn(turn)
        if turn["role"] == "tool":
            assert turns[number - 1].get("tool_calls") or turns[number - 1]["role"] == "tool"
    if "chosen" in row:
        assert letters[-1] in "ut"
        assert row["chosen"] != row["rejected"]
        for name in ("chosen", "rejected"):
            require_turn(row[name])
            assert row[name]["role"] == "assistant"
    elif not {"label", "labels"} & set(row):
        assert letters[-1] == "a"
    assert all(tool["type"] and tool["function"]["name"] for tool in row.get("tools", ()))


def require_turn(turn: Mapping[str, Any]) -> None:
    known = {"role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name", "train"}
    assert set(turn) <= known
    assert turn["role"] in ROLES
    assert isinstance(turn["content"], str)
    assert turn["content"].strip() or turn["role"] == "tool" or turn["tool_calls"]
    assert isinstance(turn.get("train", True), bool)
    for call in turn.get("tool_calls", ()):
        assert isinstance(call["function"]["name"], str)
        assert isinstance(call["function"]["arguments"], dict)


NAMES = sorted(
    {name for fields in FIELDS.values() for name in fields}
    | {"id", "system", "tools", "history", "input", "context", "choices", "labels", "doc"}
    | {"tokens", "tags"}
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats()
    | st.text(st.characters(), max_size=8) | st.sampled_from(["A", "hi", "", " ", "\ud83d"])
)  # fmt: skip
KEYS = st.sampled_from(
    ["role", "content", "from", "value", "text", "type", "name", "function", "arguments",
     "tool_calls", "train", "weight", "function_call", "thinking", "label", "start", "end"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS | st.sampled_from(["user", "assistant", "tool", "system", "human", "gpt", "{}"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def near_turns(draw: st.DrawFn) -> list[Any]:
    """Conversations that are nearly right: most of what a generator of JSON makes is not."""
    roles = draw(st.lists(st.sampled_from(ROLES), max_size=6))
    key, content = draw(st.sampled_from([("role", "content"), ("from", "value")]))
    turns: list[Any] = []
    for role in roles:
        turn: dict[str, Any] = {key: role, content: draw(st.sampled_from(["a", "b", "", None]))}
        if draw(st.booleans()) and role == "assistant":
            turn["tool_calls"] = draw(st.sampled_from([[CALL], [], None, "x", [{}], [CALL, 3]]))
        turns.append(turn)
    return turns


@settings(max_examples=400, deadline=None)
@given(
    form=st.sampled_from(sorted(FIELDS)),
    row=st.dictionaries(st.sampled_from(NAMES), VALUES | near_turns(), max_size=7),
    asked=st.sampled_from([None, "{text}!", "{question} {choices}"]),
    columns=st.dictionaries(
        st.sampled_from(NAMES), st.sampled_from([*NAMES, "a.text"]), max_size=2
    ),
    keep=st.sampled_from([(), ("doc",)]),
)
@example("text", {"text": "x" * 10, "id": 10**5000}, None, {}, ())
@example("classification", {"text": "x", "label": -(10**5000)}, None, {}, ())
@example("text", {"question": 10**5000, "choices": ["a", "b"]}, "{question} {choices}", {}, ())
@example("question_answer", {"question": "a", "answer": 10**5000}, None, {}, ())
@example(
    "tagging",
    {"text": "ab", "entities": [{"start": 0, "end": 10**5000, "label": "P"}]},
    None,
    {},
    (),
)
@example("regression", {"text": "a", "value": 10**5000}, None, {}, ())
@example("question_answer", {"question": "a", "answer": float("inf")}, None, {}, ())
def test_any_json_row_becomes_canonical_or_is_refused(
    form: str, row: Row, asked: str | None, columns: dict[str, str], keep: tuple[str, ...]
) -> None:
    prompt = asked if form in PROMPTED else None
    reason = "none"
    try:
        require_canonical(made(form, row, columns=columns, prompt=prompt, keep=keep))
    except RowProblem as problem:
        reason = str(problem)
    assert 0 < len(reason.strip()) < 200


@settings(max_examples=200, deadline=None)
@given(turns=near_turns())
def test_canonical_messages_read_as_themselves(turns: list[Any]) -> None:
    form = "sharegpt" if turns and "from" in turns[0] else "messages"
    try:
        canonical = made(form, {"messages": turns})
    except RowProblem:
        return
    assert made("messages", canonical) == canonical
