"""Conversations: OpenAI's messages and ShareGPT's."""

from __future__ import annotations

from typing import Any

from pipeline.data.formats.fields import Fields, parsed, shape, text_of
from pipeline.data.formats.turns import End, Message, conversation, tool_call, tools_of
from pipeline.data.rows import Row, RowProblem

CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat")
"""Columns that hold conversations, in the order in which they are looked for."""
_SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "system": "system", "observation": "tool", "tool": "tool",
}  # fmt: skip
_CALL = "function_call"


def messages_row(fields: Fields, prompt: str | None) -> Row:
    """``messages`` (or a list under another usual name), ``tools`` and ``system`` where given."""
    return chat_row(fields, fields.need(*CHATS))


def sharegpt_row(fields: Fields, prompt: str | None) -> Row:
    """``conversations`` of from and value (LLaMA-Factory, data/README, "Sharegpt Format")."""
    value = fields.need("conversations", *CHATS)
    return chat_row(fields, sharegpt_messages(value))


def chat_row(fields: Fields, messages: Any, end: End = "assistant") -> Row:
    """Messages behind the row's own ``system``, checked, with its ``tools``.

    A conversation that opens with a system turn keeps that one, as LLaMA-Factory reads it.
    """
    system = fields.optional_text("system", "system_prompt")
    if system is not None and isinstance(messages, list) and not _opens_with_system(messages):
        messages = [{"role": "system", "content": system}, *messages]
    row: Row = {"messages": conversation(messages, end)}
    tools = tools_of(fields.get("tools"))
    return {**row, "tools": tools} if tools else row


def sharegpt_messages(value: Any) -> list[Message]:
    """ShareGPT turns in OpenAI's form, not yet checked for order.

    Raises:
        RowProblem: not a list of from and value, or an unknown speaker.
    """
    if not isinstance(value, list):
        raise RowProblem(f"conversations are {shape(value)}, not a list")
    return [_turn(number, turn) for number, turn in enumerate(value, 1)]


def sharegpt_message(turn: Any) -> Message:
    """One ShareGPT turn in OpenAI's form.

    Raises:
        RowProblem: no such turn, or an unknown speaker.
    """
    if not isinstance(turn, dict):
        raise RowProblem(f"a turn is {shape(turn)}, not an object")
    speaker, value = turn.get("from"), turn.get("value")
    rest = {key: turn[key] for key in ("train", "weight") if key in turn}
    if speaker == _CALL:
        calls = parsed(text_of(value, "value"), _CALL)
        listed = calls if isinstance(calls, list) else [calls]
        made = [tool_call(call) for call in listed]
        return {"role": "assistant", "content": "", "tool_calls": made, **rest}
    role = _SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise RowProblem(f"no speaker {str(speaker)[:20]!r}" if speaker else "a turn without from")
    return {"role": role, "content": text_of(value, "value", blank=True), **rest}


def _turn(number: int, turn: Any) -> Message:
    try:
        return sharegpt_message(turn)
    except RowProblem as problem:
        raise RowProblem(f"turn {number}: {problem}") from None


def _opens_with_system(messages: list[Any]) -> bool:
    first = messages[0] if messages else None
    return isinstance(first, dict) and first.get("role") in ("system", "developer")
