"""Preferences: a prompt, the answer that was chosen and the one that was rejected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.data.formats.chats import CHATS, chat_row, sharegpt_message
from pipeline.data.formats.exchanges import asked, past_turns
from pipeline.data.formats.fields import Fields, shape, text_of
from pipeline.data.formats.turns import Message, message_of
from pipeline.data.rows import Row, RowProblem


def preference_row(fields: Fields, prompt: str | None) -> Row:
    """TRL's shapes ("Dataset formats", Preference) and LLaMA-Factory's (data/README).

    The prompt is text, messages or alpaca's instruction; where there is none, the turns in
    which chosen and rejected agree are. Each of the two ends in one turn of the assistant.
    """
    chosen, rejected = (_turns(fields.need(name), name) for name in ("chosen", "rejected"))
    shared = _shared(chosen, rejected)
    ends = [turns[shared:] for turns in (chosen, rejected)]
    for name, turns in zip(("chosen", "rejected"), ends, strict=True):
        if len(turns) != 1:
            raise RowProblem(f"{name} differs in {len(turns)} turns, not in its last alone")
        if turns[0]["role"] != "assistant":
            raise RowProblem(f"{name} ends with the {turns[0]['role']}'s turn")
    if ends[0] == ends[1]:
        raise RowProblem("chosen and rejected are the same")
    row = chat_row(fields, _asked(fields, chosen[:shared]), "prompt")
    return {**row, "chosen": ends[0][0], "rejected": ends[1][0]}


def _turns(value: Any, name: str) -> list[Message]:
    """An answer as turns: text, one message, or messages that may repeat the prompt."""
    if isinstance(value, str):
        return [{"role": "assistant", "content": text_of(value, name)}]
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise RowProblem(f"{name} is an empty list")
    try:
        return [message_of(_openai(turn)) for turn in listed]
    except RowProblem as problem:
        raise RowProblem(f"{name}: {problem}") from None


def _openai(turn: Any) -> Any:
    return sharegpt_message(turn) if isinstance(turn, dict) and "from" in turn else turn


def _shared(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """How many first turns the two have in common; the last of each is its own."""
    most = min(len(chosen), len(rejected)) - 1
    return next((n for n in range(most) if chosen[n] != rejected[n]), most)


def _asked(fields: Fields, implicit: list[Message]) -> list[Message]:
    """The turns before the answers.

    Raises:
        RowProblem: there are none, or the prompt is not what chosen and rejected open with.
    """
    given = _given(fields)
    if not implicit:
        if not given:
            raise RowProblem("no prompt, and chosen and rejected share no turn")
        return given
    if given and _said(given) not in (_said(implicit), _said(implicit)[:1]):
        raise RowProblem("prompt is not what chosen and rejected open with")
    system = [turn for turn in given if turn["role"] == "system"]
    return implicit if implicit[0]["role"] == "system" else [*system, *implicit]


def _said(turns: Sequence[Message]) -> list[str]:
    return [str(turn.get("content")).strip() for turn in turns if turn.get("role") != "system"]


def _given(fields: Fields) -> list[Message]:
    prompt = fields.get("prompt")
    if prompt is None and fields.get("instruction") is not None:
        return [*past_turns(fields), {"role": "user", "content": asked(fields)}]
    if prompt is None:
        prompt = fields.get(*CHATS)
    if prompt is None:
        return []
    if isinstance(prompt, str):
        return [*past_turns(fields), {"role": "user", "content": text_of(prompt, "prompt")}]
    if not isinstance(prompt, list):
        raise RowProblem(f"prompt is {shape(prompt)}, neither text nor messages")
    return [message_of(_openai(turn)) for turn in prompt]
