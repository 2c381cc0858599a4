"""Formats: each documented shape becomes one canonical form, or is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.data.formats import converter
from pipeline.data.rows import Row, RowProblem


def made(form: str, row: Mapping[str, Any], **settings: Any) -> Row:
    given_: dict[str, Any] = {"columns": {}, "prompt": None, "keep": (), **settings}
    return converter(form, **given_)(dict(row))


def refused(form: str, row: Mapping[str, Any], **settings: Any) -> str:
    with pytest.raises(RowProblem) as caught:
        made(form, row, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def user(content: Any = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any = "yes", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def system(content: Any = "be kind") -> dict[str, Any]:
    return {"role": "system", "content": content}


def says(speaker: str, value: Any) -> dict[str, Any]:
    return {"from": speaker, "value": value}


ASKED = [user(), assistant()]
CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"city": "Ulm"}}}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


# What the formats' own documents show (TRL, "Dataset formats"; LLaMA-Factory, data/README;
# Stanford Alpaca, README; OpenAI's chat form), in rows of our own.
DOCUMENTED: list[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]] = [
    ("language modelling", "text", {"text": "Rain falls."}, {"text": "Rain falls."}),
    ("chat", "messages", {"messages": [system(), *ASKED]}, {"messages": [system(), *ASKED]}),
    ("chat under another name", "messages", {"dialog": ASKED}, {"messages": ASKED}),
    ("developer", "messages", {"messages": [{"role": "developer", "content": "x"}, *ASKED]},
     {"messages": [system("x"), *ASKED]}),
    ("text parts", "messages",
     {"messages": [user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
                   assistant(["c"])]},
     {"messages": [user("a\nb"), assistant("c")]}),
    ("reasoning", "messages", {"messages": [user(), assistant(reasoning_content="think")]},
     {"messages": [user(), assistant(reasoning_content="think")]}),
    ("harmony's thinking", "messages", {"messages": [user(), assistant(thinking="think")]},
     {"messages": [user(), assistant(reasoning_content="think")]}),
    ("train", "messages",
     {"messages": [user(), assistant(train=False), user(), assistant(train=True)]},
     {"messages": [user(), assistant(train=False), user(), assistant(train=True)]}),
    ("OpenAI's weight", "messages", {"messages": [user(), assistant(weight=0)]},
     {"messages": [user(), assistant(train=False)]}),
    ("nulls of a table", "messages",
     {"messages": [{**user(), "tool_calls": None, "train": None}, assistant(name=None)]},
     {"messages": ASKED}),
    ("tool calls as objects", "messages",
     {"messages": [user(), {"role": "assistant", "tool_calls": [CALL]},
                   {"role": "tool", "name": "look_up", "content": "dry"}, assistant()],
      "tools": [TOOL]},
     {"messages": [user(), assistant("", tool_calls=[CALL]),
                   {"role": "tool", "content": "dry", "name": "look_up"}, assistant()],
      "tools": [TOOL]}),
    ("tool calls as text", "messages",
     {"messages": [user(), assistant(None, tool_calls=[
         {"id": "c1", "function": {"name": "look_up", "arguments": '{"city": "Ulm"}'}}]),
         {"role": "tool", "tool_call_id": "c1", "content": ""}, assistant()],
      "tools": json.dumps([TOOL["function"]])},
     {"messages": [user(), assistant("", tool_calls=[{**CALL, "id": "c1"}]),
                   {"role": "tool", "content": "", "tool_call_id": "c1"}, assistant()],
      "tools": [TOOL]}),
    ("OpenAI's form before tools", "messages",
     {"messages": [user(), assistant(None, function_call=CALL["function"]),
                   {"role": "function", "name": "look_up", "content": "dry"}, assistant()]},
     {"messages": [user(), assistant("", tool_calls=[CALL]),
                   {"role": "tool", "content": "dry", "name": "look_up"}, assistant()]}),
    ("two calls at once", "messages",
     {"messages": [user(), assistant("let me look"), assistant(None, tool_calls=[CALL]),
                   assistant("", tool_calls=[CALL]), {"role": "tool", "content": "dry"},
                   {"role": "tool", "content": "wet"}, assistant()]},
     {"messages": [user(), assistant("let me look", tool_calls=[CALL, CALL]),
                   {"role": "tool", "content": "dry"}, {"role": "tool", "content": "wet"},
                   assistant()]}),
    ("sharegpt", "sharegpt",
     {"conversations": [says("human", "hi"), says("gpt", "yes")], "system": "be kind"},
     {"messages": [system(), *ASKED]}),
    ("sharegpt's own system", "sharegpt",
     {"conversations": [says("system", "a"), says("user", "hi"), says("assistant", "yes")],
      "system": "b", "tools": ""},
     {"messages": [system("a"), *ASKED]}),
    ("sharegpt with tools", "sharegpt",
     {"conversations": [says("human", "hi"), says("function_call", json.dumps(CALL["function"])),
                        says("observation", '{"rain": 0}'), says("gpt", "yes")],
      "tools": json.dumps([TOOL["function"]])},
     {"messages": [user(), assistant("", tool_calls=[CALL]),
                   {"role": "tool", "content": '{"rain": 0}'}, assistant()], "tools": [TOOL]}),
    ("alpaca", "alpaca", {"instruction": "Sort.", "input": "b, a", "output": "a, b"},
     {"messages": [user("Sort.\n\nb, a"), assistant("a, b")]}),
    ("alpaca with history", "alpaca",
     {"instruction": "Sort.", "input": "", "output": "yes", "system": "be kind",
      "history": [["one", "two"]]},
     {"messages": [system(), user("one"), assistant("two"), user("Sort."), assistant()]}),
    ("alpaca's empty fields", "alpaca",
     {"instruction": "Sort.", "input": None, "output": "yes", "system": "", "history": []},
     {"messages": [user("Sort."), assistant()]}),
    ("prompt-completion", "prompt_completion", {"prompt": "The sky is", "completion": " blue."},
     {"messages": [user("The sky is"), assistant(" blue.")]}),
    ("prompt-response", "prompt_completion", {"prompt": "hi", "response": "yes"},
     {"messages": ASKED}),
    ("conversational prompt-completion", "prompt_completion",
     {"prompt": [system(), user()], "completion": [assistant()]},
     {"messages": [system(), *ASKED]}),
    ("prompt of parts", "prompt_completion",
     {"prompt": [user([{"type": "text", "text": "hi"}])], "completion": "yes"},
     {"messages": ASKED}),
    ("question", "question_answer", {"question": "hi", "answer": "yes"}, {"messages": ASKED}),
    ("question in a context", "question_answer",
     {"question": "Who?", "context": "Ann runs.", "answer": "Ann"},
     {"messages": [user("Ann runs.\n\nWho?"), assistant("Ann")]}),
    ("SQuAD's answers", "question_answer", {"question": "hi", "answer": ["yes", "yes!"]},
     {"messages": ASKED, "meta": {"answers": 2}}),
    ("annotators who agree", "question_answer", {"question": "hi", "answer": ["yes", "yes "]},
     {"messages": ASKED}),
    ("a number for an answer", "question_answer", {"question": "hi", "answer": 7},
     {"messages": [user(), assistant("7")]}),
    ("BoolQ", "question_answer", {"question": "hi", "answer": True},
     {"messages": [user(), assistant("true")]}),
    ("choices by position", "question_answer",
     {"question": "Who?", "choices": ["Ann", "Bo"], "answer": 1},
     {"messages": [user("Who?\nA. Ann\nB. Bo"), assistant("Bo")]}),
    ("choices by letter", "question_answer",
     {"question": "Who?", "context": "Run.", "choices": ["Ann", "Bo"], "answer": "A"},
     {"messages": [user("Run.\n\nWho?\nA. Ann\nB. Bo"), assistant("Ann")]}),
    ("choices by text", "question_answer",
     {"question": "Who?", "options": ["1", "0"], "answer": "0"},
     {"messages": [user("Who?\nA. 1\nB. 0"), assistant("0")]}),
    ("choices by a position in words", "question_answer",
     {"question": "Who?", "choices": ["Ann", "Bo"], "answer": "0"},
     {"messages": [user("Who?\nA. Ann\nB. Bo"), assistant("Ann")]}),
    ("ARC", "question_answer",
     {"question": "Who?", "choices": {"text": ["Ann", "Bo"], "label": ["1", "2"]}, "answer": "2"},
     {"messages": [user("Who?\nA. Ann\nB. Bo"), assistant("Bo")]}),
    ("classes", "classification", {"text": "a", "label": " b "}, {"text": "a", "label": "b"}),
    ("class numbers", "classification", {"text": "a", "label": 0}, {"text": "a", "label": "0"}),
    ("yes or no", "classification", {"text": "a", "label": True}, {"text": "a", "label": "true"}),
    ("several classes", "classification", {"text": "a", "labels": ["c", "b ", "c", 1]},
     {"text": "a", "labels": ["1", "b", "c"]}),
    ("no class of several", "classification", {"text": "a", "labels": []},
     {"text": "a", "labels": []}),
    ("classes of a chat", "classification", {"messages": [user()], "label": "a"},
     {"messages": [user()], "label": "a"}),
    ("preference", "preference", {"prompt": "The sky is", "chosen": " blue.", "rejected": " red."},
     {"messages": [user("The sky is")], "chosen": assistant(" blue."),
      "rejected": assistant(" red.")}),
    ("conversational preference", "preference",
     {"prompt": [user()], "chosen": [assistant("a")], "rejected": [assistant("b")]},
     {"messages": [user()], "chosen": assistant("a"), "rejected": assistant("b")}),
    ("implicit prompt", "preference",
     {"chosen": [system(), *ASKED, user(), assistant("a")],
      "rejected": [system(), *ASKED, user(), assistant("b")]},
     {"messages": [system(), *ASKED, user()], "chosen": assistant("a"),
      "rejected": assistant("b")}),
    ("UltraFeedback says its prompt twice", "preference",
     {"prompt": "hi", "chosen": [user(), assistant("a")], "rejected": [user(), assistant("b")],
      "messages": [user(), assistant("a")]},
     {"messages": [user()], "chosen": assistant("a"), "rejected": assistant("b")}),
    ("a system turn in the prompt only", "preference",
     {"prompt": [system(), user()], "chosen": [user(), assistant("a")],
      "rejected": [user(), assistant("b")]},
     {"messages": [system(), user()], "chosen": assistant("a"), "rejected": assistant("b")}),
    ("LLaMA-Factory's preference", "preference",
     {"conversations": [says("human", "hi"), says("gpt", "yes"), says("human", "hi")],
      "chosen": says("gpt", "a"), "rejected": says("gpt", "b")},
     {"messages": [*ASKED, user()], "chosen": assistant("a"), "rejected": assistant("b")}),
    ("LLaMA-Factory's preference with texts", "preference",
     {"messages": [system(), user()], "chosen": "a", "rejected": "b"},
     {"messages": [system(), user()], "chosen": assistant("a"), "rejected": assistant("b")}),
    ("alpaca preference", "preference",
     {"instruction": "Sort.", "input": "b, a", "chosen": "a", "rejected": "b", "system": "be kind"},
     {"messages": [system(), user("Sort.\n\nb, a")], "chosen": assistant("a"),
      "rejected": assistant("b")}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "row", "expected"), [case[1:] for case in DOCUMENTED], ids=[c[0] for c in DOCUMENTED]
)
def test_documented_shapes_become_one_form(
    form: str, row: Mapping[str, Any], expected: Row
) -> None:
    before = json.dumps(row)
    canonical = made(form, row)
    assert canonical == expected
    assert json.dumps(row) == before


BROKEN: list[tuple[str, Mapping[str, Any], str]] = [
    ("text", {}, "no column 'text'"),
    ("text", {"text": None}, "text is null"),
    ("text", {"text": " \u00a0\n"}, "text is empty"),
    ("text", {"text": 3}, "text is a number, not text"),
    ("text", {"text": ["a"]}, "text is a list, not text"),
    ("text", {"text": "a\ud800"}, "text holds a lone surrogate"),
    ("messages", {}, "no column 'messages'"),
    ("messages", {"messages": "hi"}, "messages are text, not a list"),
    ("messages", {"messages": []}, "no messages"),
    ("messages", {"messages": [1]}, "turn 1: a turn is a number"),
    ("messages", {"messages": [{"content": "hi"}]}, "turn 1: a turn without role"),
    ("messages", {"messages": [{"role": "narrator", "content": "hi"}]}, "no role 'narrator'"),
    ("messages", {"messages": [{"role": ["user"], "content": "hi"}]}, "turn 1: no role"),
    ("messages", {"messages": [user(3)]}, "turn 1: content is a number"),
    ("messages", {"messages": [user(None), assistant()]}, "turn 1: empty user turn"),
    ("messages", {"messages": [user("\ud800"), assistant()]}, "content holds a lone surrogate"),
    ("messages", {"messages": [user(), assistant(" ")]}, "turn 2: empty assistant turn"),
    ("messages", {"messages": [user(), assistant("", tool_calls=[])]}, "empty assistant turn"),
    ("messages", {"messages": [system(" "), *ASKED]}, "turn 1: empty system turn"),
    ("messages", {"messages": [user()]}, "the last turn is the user's: no answer to learn"),
    ("messages", {"messages": [system()]}, "the last turn is the system's: no answer to learn"),
    ("messages", {"messages": [assistant()]}, "turn 1: the assistant's comes first"),
    ("messages", {"messages": [system(), assistant()]}, "turn 2: the assistant's after the system"),
    ("messages", {"messages": [user(), *ASKED]}, "turn 2: the user's after the user's"),
    ("messages", {"messages": [*ASKED, assistant()]}, "turn 3: the assistant's after the assist"),
    ("messages", {"messages": [user(), system(), assistant()]}, "turn 2: the system's after the u"),
    ("messages", {"messages": [system(), system(), *ASKED]}, "the system's after the s"),
    ("messages", {"messages": [{"role": "tool", "content": "x"}, *ASKED]}, "tool's comes first"),
    ("messages", {"messages": [*ASKED, {"role": "tool", "content": "x"}]}, "the tool's after"),
    ("messages", {"messages": [user(), assistant("", tool_calls=[CALL]),
                               {"role": "tool", "content": "x"}, *ASKED]}, "the user's after"),
    ("messages", {"messages": [user(), assistant("", tool_calls=[CALL]),
                               {"role": "tool", "content": "x"}]}, "the last turn is the tool's"),
    ("messages", {"messages": [{**user(), "tool_calls": [CALL]}, assistant()]}, "a user turn with"),
    ("messages", {"messages": [user(), assistant("", tool_calls=CALL)]}, "are an object, not"),
    ("messages", {"messages": [user(), assistant("", tool_calls=[3])]}, "without a function"),
    ("messages", {"messages": [user(), assistant("", tool_calls=[
        {"function": {"name": "x", "arguments": "{"}}])]}, "arguments is not JSON"),
    ("messages", {"messages": [user(), assistant("", tool_calls=[
        {"function": {"name": "x", "arguments": "[" * 100_000}}])]}, "arguments is not JSON"),
    ("messages", {"messages": [user(), assistant("", tool_calls=[
        {"function": {"name": "x", "arguments": "[1]"}}])]}, "arguments are a list, not an obj"),
    ("messages", {"messages": [user(), assistant("", tool_calls=[
        {"function": {"name": "x", "arguments": {"a": float("nan")}}}])]}, "JSON has no form for"),
    ("messages", {"messages": ASKED, "tools": "{"}, "tools is not JSON"),
    ("messages", {"messages": ASKED, "tools": "3"}, "tools are a number, not a list"),
    ("messages", {"messages": ASKED, "tools": [{"type": "function"}]}, "a tool without a function"),
    ("messages", {"messages": [user(), assistant(train="yes")]}, "train is text, not"),
    ("messages", {"messages": [user(), assistant(weight=0.5)]}, "weight is neither 0 nor 1"),
    ("messages", {"messages": [user([{"type": "image_url", "image_url": "x"}]), assistant()]},
     "turn 1: a content part of type 'image_url'"),
    ("sharegpt", {"conversations": [says("gpt", "yes")]}, "turn 1: the assistant's comes first"),
    ("sharegpt", {"conversations": [says("human", "hi")]}, "the last turn is the user's"),
    ("sharegpt", {"conversations": {}}, "conversations are an object, not a list"),
    ("sharegpt", {"conversations": [user()]}, "turn 1: a turn without from"),
    ("sharegpt", {"conversations": [says("narrator", "x")]}, "turn 1: no speaker 'narrator'"),
    ("sharegpt", {"conversations": [says("human", None)]}, "turn 1: value is null, not text"),
    ("sharegpt", {"conversations": [says("human", "hi"), says("function_call", "soon")]},
     "turn 2: function_call is not JSON"),
    ("alpaca", {"instruction": "", "input": "b", "output": "a"}, "instruction is empty"),
    ("alpaca", {"instruction": "Sort.", "input": "b"}, "no column 'output'"),
    ("alpaca", {"instruction": "Sort.", "output": ""}, "output is empty"),
    ("alpaca", {"instruction": "Sort.", "input": {}, "output": "a"}, "input is an object"),
    ("alpaca", {"instruction": "a", "output": "a", "history": "x"}, "history is text, not a list"),
    ("alpaca", {"instruction": "a", "output": "a", "history": [["x"]]}, "holds what is no pair"),
    ("alpaca", {"instruction": "a", "output": "a", "history": [["x", None]]}, "history is null"),
    ("prompt_completion", {"prompt": "a", "completion": ""}, "completion is empty"),
    ("prompt_completion", {"prompt": [], "completion": "a"}, "does not end with the user's turn"),
    ("prompt_completion", {"prompt": ASKED, "completion": "a"}, "does not end with the user's"),
    ("prompt_completion", {"prompt": [user()], "completion": [user()]}, "the user's after"),
    ("question_answer", {"question": "a", "answer": []}, "answer is an empty list"),
    ("question_answer", {"question": "a", "answer": {}}, "answer is an object, not text"),
    ("question_answer", {"question": "a", "choices": ["b", "c"]}, "no column 'answer'"),
    ("question_answer", {"question": "a", "choices": ["b", "c"], "answer": 2}, "outside the 2 cho"),
    ("question_answer", {"question": "a", "choices": ["b", "c"], "answer": -1}, "outside the 2 ch"),
    ("question_answer", {"question": "a", "choices": ["b", "c"], "answer": True}, "name a choice"),
    ("question_answer", {"question": "a", "choices": ["b", "c"], "answer": "D"}, "names no choice"),
    ("question_answer", {"question": "a", "choices": ["B", "A"], "answer": "A"}, "two choices"),
    ("question_answer", {"question": "a", "choices": ["b"], "answer": 0}, "1 choices, and 2 to 26"),
    ("question_answer", {"question": "a", "choices": ["b", None], "answer": 0}, "a choice is null"),
    ("question_answer", {"question": "a", "choices": ["b", "b"], "answer": 0}, "stands twice"),
    ("question_answer", {"question": "a", "choices": "bc", "answer": 0}, "choices are text"),
    ("question_answer", {"question": "a", "answer": 0,
                         "choices": {"text": ["b", "c"], "label": ["1"]}}, "differ in number"),
    ("classification", {"text": "a"}, "no column 'label'"),
    ("classification", {"text": "a", "label": None}, "label is null"),
    ("classification", {"text": "a", "label": " "}, "label is empty"),
    ("classification", {"text": "a", "label": 1.5}, "label is a number with a fraction"),
    ("classification", {"text": "a", "label": {}}, "label is an object"),
    ("classification", {"text": "a", "labels": ["b", None]}, "label is null"),
    ("classification", {"label": "b"}, "no column 'text'"),
    ("preference", {"prompt": "a", "chosen": "b"}, "no column 'rejected'"),
    ("preference", {"chosen": "a", "rejected": "b"}, "no prompt, and chosen and rejected share no"),
    ("preference", {"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
    ("preference", {"prompt": "a", "chosen": "b", "rejected": " "}, "rejected is empty"),
    ("preference", {"prompt": "a", "chosen": [], "rejected": "b"}, "chosen is an empty list"),
    ("preference", {"prompt": "a", "chosen": [user()], "rejected": "b"}, "the user's turn"),
    ("preference", {"prompt": "x", "chosen": [user(), assistant("a")],
                    "rejected": [user(), assistant("b")]}, "prompt is not what chosen"),
    ("preference",
     {"chosen": [user("a"), assistant("a")], "rejected": [user("b"), assistant("a")]},
     "chosen differs in 2 turns, not in its last alone"),
    ("preference", {"prompt": ASKED, "chosen": "a", "rejected": "b"}, "nothing is asked"),
    ("preference", {"prompt": 3, "chosen": "a", "rejected": "b"}, "prompt is a number"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "row", "words"), BROKEN)
def test_rows_that_do_not_fit_are_refused_with_the_reason(
    form: str, row: Mapping[str, Any], words: str
) -> None:
    assert words in refused(form, row)
