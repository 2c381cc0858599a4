"""One rule that keeps a caller's text from speaking for the template, and can be undone."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.controls import Controls, arguments_of, as_served

START, END = "<|im_start|>", "<|im_end|>"
S = "\u2060"
RULE = Controls((START, END, "aba", "ab", "abab", "[x]"), ("<think>", "</think>"), S)
TEXTS = st.text(alphabet=f"ab<|im_endsrtx>[]/hk{S} é") | st.lists(
    st.sampled_from([START, END, "aba", "ab", S, f"a{S}b", f"<{S}think>", "<think>", "<", "|"])
).map("".join)


@given(TEXTS, st.booleans())
@example("ababab", False)
@example(f"<{S}{S}|im_end|>", True)
@example(f"<|im{S}_end|>", False)
def test_what_was_neutralised_is_restored(text: str, assistant: bool) -> None:
    assert RULE.restore(RULE.neutralise(text, assistant=assistant), assistant=assistant) == text


@given(TEXTS, st.booleans())
@example("ababab", False)
def test_no_control_string_is_left(text: str, assistant: bool) -> None:
    found = RULE.neutralise(text, assistant=assistant)
    forbidden = RULE.always if assistant else RULE.always + RULE.outside_assistant
    assert not [control for control in forbidden if control in found]


@given(st.text(), st.text())
def test_two_texts_never_become_one(one: str, other: str) -> None:
    assert (RULE.neutralise(one) == RULE.neutralise(other)) == (one == other)


@given(TEXTS)
def test_only_separators_are_added(text: str) -> None:
    assert RULE.neutralise(text).replace(S, "") == text.replace(S, "")


def test_text_without_control_strings_stays() -> None:
    for text in ("", "a < b", "im_end", f"zero{S}width", "中文"):
        assert RULE.neutralise(text) == text
    assert Controls().neutralise(END) == END
    assert Controls().restore(f"<{S}") == f"<{S}"


def test_an_assistant_may_think_and_may_not_end_its_turn() -> None:
    text = f"<think>x</think>{END}"
    assert RULE.neutralise(text, assistant=True) == f"<think>x</think><{S}|im_end|>"
    assert RULE.neutralise(text) == f"<{S}think>x<{S}/think><{S}|im_end|>"


def test_case_may_be_ignored() -> None:
    rule = Controls(("<eos>",), (), S, ignore_case=True)
    assert rule.neutralise("<EOS><eOs>") == f"<{S}EOS><{S}eOs>"


def test_every_string_of_a_message_is_neutralised_but_its_role() -> None:
    bad, good = f"x{END}", f"x<{S}|im_end|>"
    messages: list[dict[str, Any]] = [
        {"role": END, "content": bad, "name": bad},
        {"role": "user", "content": [{"type": "text", "text": bad}]},
        {"role": "assistant", "content": None, "reasoning_content": bad, "train": True,
         "tool_calls": [{"id": bad, "function": {"name": bad, "arguments": {bad: [bad, 1]}}}]},
        {"role": "tool", "content": bad, "tool_call_id": bad},
    ]  # fmt: skip
    assert RULE.messages(messages) == [
        {"role": END, "content": good, "name": good},
        {"role": "user", "content": [{"type": "text", "text": good}]},
        {"role": "assistant", "content": None, "reasoning_content": good, "train": True,
         "tool_calls": [{"id": good, "function": {"name": good, "arguments": {good: [good, 1]}}}]},
        {"role": "tool", "content": good, "tool_call_id": good},
    ]  # fmt: skip
    assert RULE.value([{"function": {"name": bad}}]) == [{"function": {"name": good}}]


@pytest.mark.parametrize("wrapped", [True, False])
def test_an_escape_in_a_tool_calls_arguments_hides_nothing(wrapped: bool) -> None:
    hidden = '{"city": "\\u003c|im_end|>", "n": 1}'
    call: dict[str, Any] = {"name": "f", "arguments": hidden}
    message = {"role": "assistant", "tool_calls": [{"function": call} if wrapped else call]}
    found = RULE.messages([message])[0]["tool_calls"][0]
    text = (found["function"] if wrapped else found)["arguments"]
    # What an engine reads from it, and a template writes again.
    assert json.loads(text) == {"city": f"<{S}|im_end|>", "n": 1}
    plain = RULE.messages([{"role": "assistant", "tool_calls": [{"arguments": f'"{END}"'}]}])
    assert plain[0]["tool_calls"][0]["arguments"] == f'"<{S}|im_end|>"'


def test_arguments_that_are_nested_too_deeply_are_refused() -> None:
    deep = '{"a":' * 100_000 + '"\\u003c"' + "}" * 100_000
    with pytest.raises(ValueError, match="too deeply"):
        RULE.messages([{"role": "assistant", "tool_calls": [{"arguments": deep}]}])


@pytest.mark.parametrize(("text", "found"), [('{"a": 1}', {"a": 1}), ("[1]", {}), ("{", {})])
def test_arguments_are_an_object_or_nothing(text: str, found: dict[str, Any]) -> None:
    assert arguments_of(text) == found


def test_tools_are_put_as_an_engine_puts_them() -> None:
    given_ = {"x": 1, "function": {"parameters": {"type": "object"}, "name": "f", "y": 2}}
    assert list(as_served([given_])[0]["function"]) == ["name", "description", "parameters"]
    assert as_served([given_]) == [
        {"type": "function", "function": {
            "name": "f", "description": None, "parameters": {"type": "object"}}},
    ]  # fmt: skip
    assert as_served(as_served([given_])) == as_served([given_])
    assert as_served([{"name": "bare"}]) == [{"name": "bare"}]


def test_the_rule_travels_as_json_and_between_processes() -> None:
    tree = json.loads(json.dumps(RULE.to_json()))
    assert Controls.from_json(tree) == RULE
    assert RULE.neutralise(END)
    assert pickle.loads(pickle.dumps(RULE)).neutralise(END) == RULE.neutralise(END)  # noqa: S301


@pytest.mark.parametrize(
    "tree",
    [
        {},
        [],
        {"always": ["ab"], "outside_assistant": [], "separator": ""},
        {"always": ["a"], "outside_assistant": [], "separator": S},
        {"always": [f"a{S}b"], "outside_assistant": [], "separator": S},
        {"always": [1], "outside_assistant": [], "separator": S},
        {"always": 1, "outside_assistant": [], "separator": S},
        {"always": [], "outside_assistant": [], "separator": S, "ignore_case": "no"},
    ],
)
def test_another_rule_is_refused(tree: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Controls.from_json(tree)
