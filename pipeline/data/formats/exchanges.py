"""One question and one answer: alpaca, prompt and completion, question and answer."""

from __future__ import annotations

from typing import Any

from pipeline.data.formats.chats import chat_row
from pipeline.data.formats.choices import lettered, options_of, picked
from pipeline.data.formats.fields import Fields, plain, shape, text_of
from pipeline.data.formats.turns import Message
from pipeline.data.rows import Row, RowProblem


def alpaca_row(fields: Fields, prompt: str | None) -> Row:
    """instruction, input, output, history, system (Stanford Alpaca; LLaMA-Factory, data/README)."""
    own = None if prompt is not None and fields.get("instruction") is None else asked(fields)
    turns = past_turns(fields)
    answer = {"role": "assistant", "content": fields.text("output")}
    return _exchange(fields, prompt, own, turns, [answer])


def prompt_completion_row(fields: Fields, prompt: str | None) -> Row:
    """prompt and completion, each text or messages (TRL, "Dataset formats", Prompt-completion)."""
    question = fields.get("prompt") if prompt is not None else fields.need("prompt")
    answer = fields.need("completion", "response")
    answers = answer if isinstance(answer, list) else [
        {"role": "assistant", "content": text_of(answer, "completion")}
    ]  # fmt: skip
    own, turns = None, []
    if isinstance(question, list):
        last = question[-1] if question else None
        if not isinstance(last, dict) or last.get("role") != "user":
            raise RowProblem("prompt does not end with the user's turn")
        own, turns = last.get("content"), question[:-1]
        if isinstance(own, list) and prompt is None:
            return chat_row(fields, [*question, *answers])
    elif question is not None:
        own = question
    own = None if own is None else text_of(own, "prompt")
    return _exchange(fields, prompt, own, turns, answers)


def question_answer_row(fields: Fields, prompt: str | None) -> Row:
    """question and answer, with a context or with choices where there are such.

    The context stands before the question. With choices the question is followed by them,
    lettered, and the answer is the text of the choice. Of several different answers the first is
    learned; ``meta`` then says how many there are.
    """
    options = options_of(fields)
    several = 1
    if options is not None:
        answer = picked(fields.need("answer"), options)
    else:
        given = fields.need("answer", "answers")
        answer, several = answer_text(given), _different(given)
    shown = lettered(options.texts) if options is not None else ""
    own = None
    if prompt is None or fields.get("question") is not None:
        parts = (fields.optional_text("context"), fields.text("question"))
        own = "\n\n".join(part for part in parts if part)
        own = f"{own}\n{shown}" if shown else own
    answers = [{"role": "assistant", "content": answer}]
    more = {"choices": shown} if shown else {}
    row = _exchange(fields, prompt, own, [], answers, **more)
    return {**row, "meta": {"answers": several}} if several > 1 else row


def asked(fields: Fields) -> str:
    """Alpaca's instruction and, after an empty line, its input."""
    extra = fields.optional_text("input")
    instruction = fields.text("instruction")
    return f"{instruction}\n\n{extra}" if extra else instruction


def past_turns(fields: Fields) -> list[Message]:
    """Alpaca's ``history``: pairs of what was asked and what was answered before."""
    history = fields.get("history")
    if history is None:
        return []
    if not isinstance(history, list):
        raise RowProblem(f"history is {shape(history)}, not a list of pairs")
    turns = []
    for pair in history:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise RowProblem("history holds what is no pair")
        for role, content in zip(("user", "assistant"), pair, strict=True):
            turns.append({"role": role, "content": text_of(content, "history")})
    return turns


def answer_text(value: Any) -> str:
    """An answer as text; of several (SQuAD lists what annotators wrote) the first."""
    if isinstance(value, list):
        if not value:
            raise RowProblem("answer is an empty list")
        value = value[0]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        value = str(plain(value, "answer"))
    return text_of(value, "answer")


def _different(answers: Any) -> int:
    """How many answers a row has, those that only repeat another left out."""
    return len({str(answer).strip() for answer in answers}) if isinstance(answers, list) else 1


def _exchange(
    fields: Fields,
    prompt: str | None,
    own: str | None,
    before: list[Message],
    answers: list[Message],
    **more: str,
) -> Row:
    """Past turns, the user's (the recipe's prompt if there is one), and the answers."""
    turn = own if prompt is None else fields.filled(prompt, **more)
    messages = [*before, {"role": "user", "content": turn}, *answers]
    row = chat_row(fields, messages)
    if prompt is None:
        return row
    own = own or fields.own_words(prompt, **more)
    return row if own is None else {**row, "source_text": own}
