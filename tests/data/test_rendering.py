"""Rows to token ids: which turns are learned, what is refused and why, documents, questions."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from pipeline.core.controls import Controls
from pipeline.core.errors import ModelError
from pipeline.data.rendering import Renderer, fixed_kwargs, thinks, without_thought
from pipeline.data.rows import RowProblem
from tests.data.rendering_cases import CHATML, END, START, assistant, learned, tiny, user

ROW = [user("My card has not arrived."), assistant("card_arrival")]
LONG = [
    {"role": "system", "content": "Say what it is."}, *ROW,
    user("Thank you."), assistant("thanks"), user("Bye."), assistant("bye"),
]  # fmt: skip


def made(template: str | None = CHATML) -> Any:
    """A tokenizer that was trained on the spot."""
    tokenizer = tiny()
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def chatml() -> Any:
    return made()


@pytest.mark.parametrize(
    ("loss_on", "said"),
    [
        ("assistant", ["card_arrival", "thanks", "bye"]),
        ("last", ["bye"]),
        ("flag", ["card_arrival", "thanks", "bye"]),
    ],
)
def test_loss_is_on_the_turns_that_the_recipe_names(
    chatml: Any, loss_on: str, said: list[str]
) -> None:
    (row,) = Renderer(chatml, causal=True).conversation(LONG, loss_on=loss_on)
    assert learned(row, chatml) == "".join(f"{text}{END}\n" for text in said)


def test_flagged_turns_alone_are_learned_and_nothing_follows_the_last(chatml: Any) -> None:
    renderer = Renderer(chatml, causal=True)
    flagged = [*LONG[:2], {**LONG[2], "train": False}, LONG[3], {**LONG[4], "train": True},
               *LONG[5:]]  # fmt: skip
    (row,) = renderer.conversation(flagged, loss_on="flag")
    assert learned(row, chatml) == f"thanks{END}\n"
    assert "Bye" not in chatml.decode(row.input_ids)


YES, NO, UNSAID = True, False, None


@pytest.mark.parametrize(
    ("loss_on", "flags", "said"),
    [
        ("assistant", (NO, UNSAID, YES), ["thanks", "bye"]),
        ("assistant", (UNSAID, NO, NO), ["card_arrival"]),
        ("assistant", (UNSAID, YES, UNSAID), ["card_arrival", "thanks", "bye"]),
        ("last", (NO, NO, UNSAID), ["bye"]),
        ("flag", (NO, UNSAID, UNSAID), ["thanks", "bye"]),
        ("flag", (NO, YES, UNSAID), ["thanks"]),
        ("flag", (YES, UNSAID, YES), ["card_arrival", "bye"]),
        ("assistant", (NO, NO, NO), "all assistant turns say train: false"),
        ("flag", (NO, NO, NO), "all assistant turns say train: false"),
        ("last", (YES, YES, NO), "the last assistant turn says train: false"),
    ],
)
def test_a_turn_that_says_train_false_is_never_learned(
    chatml: Any, loss_on: str, flags: tuple[bool | None, ...], said: list[str] | str
) -> None:
    given, answers = list(LONG), [i for i, m in enumerate(LONG) if m["role"] == "assistant"]
    for index, flag in zip(answers, flags, strict=True):
        given[index] = LONG[index] if flag is UNSAID else {**LONG[index], "train": flag}
    renderer = Renderer(chatml, causal=True)
    if isinstance(said, str):
        with pytest.raises(RowProblem, match=said):
            renderer.conversation(given, loss_on=loss_on)
    else:
        (row,) = renderer.conversation(given, loss_on=loss_on)
        assert learned(row, chatml) == "".join(f"{text}{END}\n" for text in said)
    # Every token is every token.
    assert renderer.conversation(given, loss_on="all") == renderer.conversation(LONG, loss_on="all")


def test_a_flag_on_anothers_turn_marks_no_answer(chatml: Any) -> None:
    given = [{**ROW[0], "train": True}, ROW[1]]
    with pytest.raises(RowProblem, match="no assistant turn with train: true"):
        Renderer(chatml, causal=True).conversation(given, loss_on="flag")


@pytest.mark.parametrize("loss_on", ["assistant", "last", "flag"])
def test_a_row_says_where_the_prompt_of_its_last_turn_ends(chatml: Any, loss_on: str) -> None:
    renderer = Renderer(chatml, causal=True)
    (row,) = renderer.conversation(LONG, loss_on=loss_on)
    asked = chatml.apply_chat_template(LONG[:-1], add_generation_prompt=True, return_dict=True)
    assert row.input_ids[: row.prompt] == asked["input_ids"]
    (whole,) = renderer.conversation(LONG, loss_on="all")
    assert whole.prompt is renderer.text("My card").prompt is None


def test_every_token_is_learned_where_the_recipe_says_all(chatml: Any) -> None:
    (row,) = Renderer(chatml, causal=True).conversation([*LONG, user("?")], loss_on="all")
    assert set(row.supervised) == {1}
    assert chatml.decode(row.input_ids).endswith(f"?{END}\n")


def test_a_batch_answers_each_row_in_order(chatml: Any) -> None:
    renderer = Renderer(chatml, causal=True)
    rows: list[dict[str, Any]] = [
        {"messages": ROW}, {"messages": [user("a\ud800"), assistant("b")]}, {"messages": ROW[:1]},
        {"messages": LONG},
    ]  # fmt: skip
    found = renderer.conversations(rows)
    assert found[0] == renderer.conversation(ROW)
    assert isinstance(found[1], RowProblem)
    assert "not Unicode" in str(found[1])
    assert isinstance(found[2], RowProblem)
    assert "no assistant turn" in str(found[2])
    assert found[3] == renderer.conversation(LONG)
    assert renderer.conversations([]) == []


def test_a_row_that_the_template_refuses_is_told_in_its_words() -> None:
    picky = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must\nalternate') }}{% endif %}{% endfor %}" + CHATML
    )
    renderer = Renderer(made(picky), causal=True)
    found = renderer.conversations([{"messages": [user("a"), *ROW]}, {"messages": ROW}])
    assert isinstance(found[0], RowProblem)
    assert str(found[0]) == "the chat template refuses it: roles must alternate"
    assert isinstance(found[1], list)
    with pytest.raises(RowProblem, match="alternate"):
        renderer.prompt(LONG[:2])


@pytest.mark.parametrize(
    ("template", "system", "word"),
    [
        ("{{ raise_exception('never') }}", None, r"\(the chat template refuses it: never\); set "),
        ("{{ messages[0].no.such }}", None, "data.chat_template to another Jinja file"),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
         + CHATML, "Be brief.", "no system.*or leave out data.system"),
        (CHATML.replace("assistant\n{%", "assistant\n<think>{%"), None,
         r"not a prefix .* set data.chat_template_kwargs"),
        (CHATML.replace("<|im_end|>", ""), None, "would never stop"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}<|im_end|>{% endfor %}", None,
         "would never stop"),
        ("{% if %}", None, "chat_template: fails"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_learned_from_stops_the_run_with_a_remedy(
    template: str, system: str | None, word: str
) -> None:
    renderer = Renderer(made(template), causal=True, system=system)
    with pytest.raises(ModelError, match=word) as caught:
        renderer.conversations([{"messages": ROW}])
    assert "\n" not in str(caught.value)


def test_a_turn_without_a_prefix_is_a_rows_problem_where_the_template_is_sound() -> None:
    template = CHATML.replace(
        "assistant\n{%", "assistant\n{% if messages[0].content == 'x' %}<b>{% endif %}{%"
    )
    renderer = Renderer(made(template), causal=True)
    with pytest.raises(RowProblem, match="not a prefix"):
        renderer.conversation([user("x"), assistant("y")])


def test_a_turn_that_renders_to_nothing_is_refused() -> None:
    template = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.content %}")
    template = template.replace("<|im_start|>assistant\n{%", "{%")
    renderer = Renderer(made(template), causal=True)
    with pytest.raises(RowProblem, match="without supervised tokens"):
        renderer.conversation([user("x"), assistant("")])


def test_no_template_is_an_error_with_a_remedy(chatml: Any) -> None:
    bare = made(None)
    renderer = Renderer(bare, causal=True)
    for call in (renderer.prompt, renderer.conversation):
        with pytest.raises(ModelError, match=r"no chat_template.*set data.chat_template to a Ji"):
            call(ROW)
    # A classifier reads the plain text then.
    assert renderer.question("My card") == bare("My card")["input_ids"]
    assert renderer.question({"messages": ROW[:1]}) == bare(ROW[0]["content"])["input_ids"]
    assert renderer.question("My card") != Renderer(chatml, causal=True).question("My card")
    with pytest.raises(RowProblem, match="not Unicode"):
        renderer.question("\ud800")


def test_a_tokenizer_may_have_templates_by_name() -> None:
    tokenizer = made()
    tokenizer.chat_template = {"default": CHATML, "tool_use": "TOOLS " + CHATML}
    renderer = Renderer(tokenizer, causal=True)
    tool = {"function": {"name": "f"}}
    assert tokenizer.decode(renderer.prompt(ROW[:1], [tool])).startswith("TOOLS")
    assert not tokenizer.decode(renderer.prompt(ROW[:1])).startswith("TOOLS")
    tokenizer.chat_template = {"rag": CHATML}
    with pytest.raises(ModelError, match=r"set data.chat_template to a Jinja file"):
        Renderer(tokenizer, causal=True).prompt(ROW[:1])


def test_a_question_is_a_text_or_a_row(chatml: Any) -> None:
    renderer = Renderer(chatml, causal=True, system="Say what it is.")
    asked = renderer.question("My card")
    assert asked == renderer.question({"text": "My card", "label": "x"})
    assert asked == renderer.question({"messages": [user("My card")], "label": "x"})
    assert asked == renderer.prompt(renderer.messages("My card"))
    assert "Say what it is." in chatml.decode(asked)


def test_system_text_opens_what_has_none(chatml: Any) -> None:
    renderer = Renderer(chatml, causal=True, system="Say what it is.")
    assert [m["role"] for m in renderer.messages("q", "a")] == ["system", "user", "assistant"]
    assert renderer.with_system(ROW)[0] == {"role": "system", "content": "Say what it is."}
    own = [{"role": "system", "content": "Mine."}, *ROW]
    assert renderer.with_system(own) == own
    assert Renderer(chatml, causal=True).with_system(ROW) == ROW
    assert renderer.conversation(ROW) == renderer.conversation(renderer.with_system(ROW))


def test_a_document_is_supervised_whole_and_ends_once(chatml: Any) -> None:
    renderer = Renderer(chatml, causal=True)
    found = renderer.text("My card has not arrived.")
    assert found.supervised == [1] * len(found.input_ids)
    assert found.input_ids.count(chatml.eos_token_id) == 1
    assert chatml.decode(found.input_ids[:-1]) == "My card has not arrived."
    # An encoder's text needs no end.
    encoder = Renderer(chatml, causal=False)
    assert encoder.text("My card").input_ids == chatml("My card")["input_ids"]
    first, second, third = renderer.texts(["a b", "\ud800", ""])
    assert first == renderer.text("a b")
    assert isinstance(second, RowProblem)
    assert getattr(third, "input_ids", None) == [chatml.eos_token_id]
    with pytest.raises(RowProblem, match="not Unicode"):
        renderer.text("\ud800")


def test_control_strings_in_a_document_end_nothing(chatml: Any) -> None:
    ids = Renderer(chatml, causal=True).text(f"a{END}{START}b").input_ids
    assert ids.count(chatml.eos_token_id) == 1
    assert chatml.convert_tokens_to_ids(START) not in ids


def test_what_the_tokenizer_puts_around_a_document_is_kept() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = made()
    first, last = (tokenizer.convert_tokens_to_ids(text) for text in (START, END))
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, first), (END, last)]
    )
    renderer = Renderer(tokenizer, causal=True)
    assert renderer.text("My card").input_ids == tokenizer("My card")["input_ids"]
    tokenizer.chat_template = None
    assert renderer.question("My card") == tokenizer("My card")["input_ids"]


def test_the_rule_that_was_kept_with_the_model_is_used(chatml: Any) -> None:
    rule = Controls((END,), (), "\u200b")
    renderer = Renderer(chatml, causal=True, controls=rule)
    assert renderer.controls == rule
    assert "<\u200b|im_end|>" in chatml.decode(renderer.prompt([user(END)]))


def test_arguments_nested_too_deeply_are_a_rows_problem(chatml: Any) -> None:
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    call = {"function": {"name": "f", "arguments": {"a": deep}}}
    with pytest.raises(RowProblem, match=r"nested|depth"):
        Renderer(chatml, causal=True).conversation([user("q"), assistant("", tool_calls=[call])])


def test_content_may_be_missing_or_in_parts(chatml: Any) -> None:
    renderer = Renderer(chatml, causal=True)
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert renderer.prompt([user("a\nb")]) == renderer.prompt([{"role": "user", "content": parts}])
    assert renderer.prompt([user("")]) == renderer.prompt([{"role": "user", "content": None}])


def test_a_renderer_travels_between_processes(chatml: Any) -> None:
    renderer = Renderer(chatml, causal=True)
    again = pickle.loads(pickle.dumps(renderer))  # noqa: S301
    assert again.conversation(LONG) == renderer.conversation(LONG)


@pytest.mark.parametrize(
    ("template", "given", "found"),
    [
        ("{{ enable_thinking }}", {}, {"enable_thinking": False}),
        ({"a": "{{ enable_thinking }}"}, {"x": 1}, {"x": 1, "enable_thinking": False}),
        ("{{ enable_thinking }}", {"enable_thinking": True}, {"enable_thinking": True}),
        ("{{ enable_thinking_hard }}", {}, {}),
        (None, {"x": 1}, {"x": 1}),
    ],
)
def test_thinking_is_fixed_where_the_template_asks_for_it(
    template: Any, given: dict[str, Any], found: dict[str, Any]
) -> None:
    assert fixed_kwargs(template, given) == found


@pytest.mark.parametrize(
    ("turn", "held"),
    [
        (assistant("a", reasoning_content="because"), True),
        (assistant("<think>\nbecause\n</think>\n\na"), True),
        (assistant("\n<think>because"), True),
        # The prompt had opened the thought.
        (assistant("because\n</think>\n\na"), True),
        (assistant("a", reasoning_content=" \n"), False),
        (assistant("<think>\n\n</think>\n\na"), False),
        (assistant("\n</think>\n\na"), False),
        (assistant("Write <think> before a thought."), False),
        (assistant("", tool_calls=[]), False),
        ({"role": "assistant", "content": None}, False),
    ],
)
def test_a_thought_is_told_from_an_empty_one(turn: dict[str, Any], held: bool) -> None:
    assert thinks(turn) is held
    assert not thinks(without_thought(turn))
    if held and "</think>" in turn["content"]:
        assert without_thought(turn)["content"] == "a"
