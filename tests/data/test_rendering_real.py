"""Real tokenizers and templates: what training sees is what serving will make."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipeline.data.rendering import Renderer
from tests.data.rendering_cases import (
    CALL,
    CASES,
    CONVERSATIONS,
    TOOLS,
    assistant,
    case,
    decoded,
    fresh,
    learned,
    user,
)

every_case = pytest.mark.parametrize("name", CASES)
Message = dict[str, Any]


def oracle(made: Any, renderer: Renderer, messages: list[Message], **more: Any) -> list[int]:
    """What transformers makes of messages that were neutralised."""
    return list(
        made.tokenizer.apply_chat_template(
            renderer.controls.messages(messages), tokenize=True, return_dict=True, **made.kwargs,
            **more,
        )["input_ids"]
    )  # fmt: skip


def runs(flags: list[int]) -> list[tuple[int, int]]:
    """Where flags are 1, as (start, end)."""
    text = "".join(map(str, flags))
    return [(found.start(), found.end()) for found in re.finditer("1+", text)]


@every_case
@pytest.mark.parametrize("which", CONVERSATIONS)
def test_every_supervised_turn_follows_the_ids_that_serving_makes(name: str, which: str) -> None:
    made = case(name)
    renderer = made.renderer
    messages = CONVERSATIONS[which]
    rows = renderer.conversation(messages)
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    found = [(row, start, end) for row in rows for start, end in runs(row.supervised)]
    assert len(found) == len(turns)
    for index, (row, start, end) in zip(turns, found, strict=True):
        prompt = oracle(made, renderer, messages[:index], add_generation_prompt=True)
        assert row.input_ids[:start] == prompt
        assert renderer.prompt(messages[:index]) == prompt
        # The end of the turn is learned.
        assert decoded(made.tokenizer, row.input_ids[start:end]).count(made.end) == 1
    text = "".join(learned(row, made.tokenizer) for row in rows)
    assert "Answer briefly" not in text
    assert "Where" not in text


# Where an answer starts with blanks, or a prompt ends with two line breaks (Qwen3's empty
# thought), GPT-2's rules read another text than the prompt and the answer: serving is right.
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("qwen3")])
@pytest.mark.parametrize("which", [name for name in CONVERSATIONS if name != "blank starts"])
def test_a_row_is_what_transformers_makes_of_it(name: str, which: str) -> None:
    made = case(name)
    renderer = made.renderer
    messages = CONVERSATIONS[which]
    rows = renderer.conversation(messages)
    assert rows[-1].input_ids == oracle(made, renderer, messages)
    whole = renderer.conversation(messages, loss_on="all")
    assert [row.input_ids for row in whole] == [rows[-1].input_ids]
    assert set(whole[0].supervised) == {1}


@pytest.mark.parametrize("name", [n for n in CASES if "phi-" not in n.partition("/")[0]])
def test_ids_decode_to_the_rendered_text(name: str) -> None:
    made = case(name)
    renderer = made.renderer
    for messages in CONVERSATIONS.values():
        text = made.tokenizer.apply_chat_template(
            renderer.controls.messages(messages), tokenize=False, **made.kwargs
        )
        assert decoded(made.tokenizer, renderer.conversation(messages)[-1].input_ids) == text


@pytest.mark.parametrize("name", ["chatml/gpt2", "qwen2.5/phi-2", "gpt-oss/gpt2", "smollm3/gpt2"])
def test_turns_that_no_template_rewrites_share_one_row(name: str) -> None:
    made = case(name)
    renderer = made.renderer
    rows = renderer.conversation(CONVERSATIONS["turns"])
    assert len(rows) == 1
    assert len(runs(rows[0].supervised)) == 3


@pytest.mark.parametrize("name", ["qwen3/gpt2", "phi-3-mini"])
def test_turns_that_a_template_rewrites_get_rows_of_their_own(name: str) -> None:
    made = case(name)
    renderer = made.renderer
    rows = renderer.conversation(CONVERSATIONS["turns"])
    assert len(rows) == 3
    for row in rows:
        assert len(runs(row.supervised)) == 1
        # Nothing follows what is learned.
        assert row.supervised[-1] == 1


def test_an_answer_that_the_tokenizer_joins_with_the_prompt_is_cut_at_the_prompt() -> None:
    made = case("qwen2.5/phi-2")
    renderer = made.renderer
    messages = [user("q"), assistant("\n\n"), user("r"), assistant("\n\n\n")]
    rows = renderer.conversation(messages)
    joint = oracle(made, renderer, messages[:2])
    prompt = renderer.prompt(messages[:1])
    assert joint[: len(prompt)] != prompt
    assert rows[0].input_ids[: len(prompt)] == prompt
    assert len(rows) == 2
    for row, end in zip(rows, (2, 4), strict=True):
        text = made.tokenizer.apply_chat_template(messages[:end], tokenize=False)
        assert decoded(made.tokenizer, row.input_ids) == text
        start = row.supervised.index(1)
        assert row.input_ids[:start] == oracle(
            made, renderer, messages[: end - 1], add_generation_prompt=True
        )


@pytest.mark.parametrize("template", ["qwen2.5", "qwen3", "smollm3"])
def test_tools_and_tool_calls_are_rendered_and_learned(template: str) -> None:
    made = case(f"{template}/gpt2")
    renderer = made.renderer
    messages = [
        user("Weather?"), assistant("", tool_calls=[CALL]),
        {"role": "tool", "content": "晴 20<|im_end|>", "name": "weather"}, assistant("Sunny."),
    ]  # fmt: skip
    rows = renderer.conversation(messages, tools=TOOLS)
    text = "".join(learned(row, made.tokenizer) for row in rows)
    assert "Sunny.<|im_end|>" in text
    assert "20" not in text
    if template != "smollm3":  # Its template does not write calls.
        assert '"arguments": {"city": "北京"}' in text
    last = renderer.prompt(messages[:-1], TOOLS)
    assert last == oracle(made, renderer, messages[:-1], tools=TOOLS, add_generation_prompt=True)
    assert rows[-1].input_ids[: len(last)] == last
    assert "<tools>" in decoded(made.tokenizer, last)
    # As text, arguments are what they are as an object: an engine gets them as text.
    as_text = [{**CALL, "function": {"name": "weather", "arguments": '{"city": "\\u5317京"}'}}]
    again = [messages[0], assistant("", tool_calls=as_text), *messages[2:]]
    assert renderer.conversation(again, tools=TOOLS) == rows


def test_gpt_oss_learns_its_header_and_renders_bare_calls() -> None:
    made = case("gpt-oss/gpt2")
    renderer = made.renderer
    call = {"name": "weather", "arguments": {"city": "x"}}
    messages = [
        user("q"), assistant("hm", tool_calls=[call]), {"role": "tool", "content": "9"},
        assistant("Nine."),
    ]  # fmt: skip
    (row,) = renderer.conversation(messages, tools=TOOLS)
    text = learned(row, made.tokenizer)
    # Serving stops its prompt after "assistant": the model writes what comes then.
    assert text.startswith("<|channel|>analysis<|message|>hm<|end|>")
    assert 'to=functions.weather<|channel|>commentary json<|message|>{"city": "x"}<|end|>' in text
    assert text.endswith("<|message|>Nine.<|end|>")


def test_where_the_template_has_generation_tags_transformers_agrees() -> None:
    made = case("smollm3/gpt2", enable_thinking=True)
    renderer = made.renderer
    messages = CONVERSATIONS["turns"]
    (row,) = renderer.conversation(messages)
    theirs = made.tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **made.kwargs
    )
    assert row.input_ids == theirs["input_ids"]
    # Its tags take the generation prompt in too, which serving writes and the model does not.
    header = made.tokenizer("<|im_start|>assistant\n")["input_ids"]
    ours, mask = runs(row.supervised), runs(theirs["assistant_masks"])
    assert ours == [(start + len(header), end) for start, end in mask]


def test_reasoning_is_learned_where_serving_asks_for_it() -> None:
    made = case("qwen3/gpt2", enable_thinking=True)
    renderer = made.renderer
    messages = [
        user("1+1?"), assistant("2", reasoning_content="one and one"),
        user("2+2?"), assistant("4", reasoning_content="two and two"),
        user("And?"), assistant("no more"),
    ]  # fmt: skip
    first, second, third = renderer.conversation(messages)
    assert learned(first, made.tokenizer) == "<think>\none and one\n</think>\n\n2<|im_end|>\n"
    assert learned(second, made.tokenizer) == "<think>\ntwo and two\n</think>\n\n4<|im_end|>\n"
    # The template forgets earlier reasoning, and so does the row.
    assert "one and one" not in decoded(made.tokenizer, second.input_ids)
    # An empty block that the template supplies is not learned.
    assert learned(third, made.tokenizer) == "no more<|im_end|>\n"
    assert "<think>\n\n</think>\n\nno more" in decoded(made.tokenizer, third.input_ids)
    prompt = oracle(made, renderer, messages[:-1], add_generation_prompt=True)
    assert third.input_ids[: len(prompt)] == prompt


def test_reasoning_in_the_content_is_the_assistants_own() -> None:
    made = case("qwen3/gpt2", enable_thinking=True)
    renderer = made.renderer
    (row,) = renderer.conversation([user("q"), assistant("<think>\nhm\n</think>\n\na")])
    assert learned(row, made.tokenizer) == "<think>\nhm\n</think>\n\na<|im_end|>\n"
    (row,) = renderer.conversation([user("<think>\n</think>"), assistant("a")])
    assert "<\u2060think>\n<\u2060/think>" in decoded(made.tokenizer, row.input_ids)


def test_steps_of_one_answer_keep_their_reasoning_in_one_row() -> None:
    made = case("qwen3/gpt2", enable_thinking=True)
    renderer = made.renderer
    messages = [
        user("Weather?"), assistant("", tool_calls=[CALL], reasoning_content="ask"),
        {"role": "tool", "content": "20"}, assistant("20.", reasoning_content="told"),
    ]  # fmt: skip
    (row,) = renderer.conversation(messages, tools=TOOLS)
    assert len(runs(row.supervised)) == 2
    assert "ask" in learned(row, made.tokenizer)
    assert "told" in learned(row, made.tokenizer)


@pytest.mark.parametrize("name", ["phi-3-mini", "chatml/roberta-base"])
def test_bos_stands_once_whoever_writes_it(name: str) -> None:
    tokenizer = fresh(name).tokenizer
    bos = tokenizer.bos_token_id
    plain = Renderer(tokenizer, causal=True).conversation(CONVERSATIONS["turns"])
    assert all(row.input_ids.count(bos) == 0 for row in plain)
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    renderer = Renderer(tokenizer, causal=True)
    attack = [user(f"{tokenizer.bos_token} hello"), assistant(f"a{tokenizer.bos_token}")]
    for messages in (*CONVERSATIONS.values(), attack):
        for row in renderer.conversation(messages):
            assert row.input_ids[0] == bos
            assert row.input_ids.count(bos) == 1
        assert renderer.prompt(messages[:1]).count(bos) == 1
    document = renderer.text("A document.").input_ids
    assert document.count(bos) == tokenizer("A document.")["input_ids"].count(bos)
