"""Turns of a conversation: each one's form, and the order in which roles may speak.

The form is OpenAI's chat form (API reference, "Create chat completion", messages), as chat
templates read it: arguments of a tool call are an object there, not JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pipeline.data.formats.fields import parsed, shape, text_of
from pipeline.data.rows import RowProblem

Message = dict[str, Any]
End = Literal["assistant", "prompt", "any"]

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
    "tool": "tool", "function": "tool",
}  # fmt: skip
_REASONING = ("reasoning_content", "reasoning", "thinking")
_NEXT = {
    "": ("user",),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


def conversation(value: Any, end: End) -> list[Message]:
    """Canonical messages.

    Args:
        value: a list of messages with role and content.
        end: who speaks last: the assistant (a row to learn from), or one whom the assistant
            answers (a prompt), or anyone.

    Raises:
        RowProblem: not such a list, an empty turn, or roles out of order.
    """
    if not isinstance(value, list):
        raise RowProblem(f"messages are {shape(value)}, not a list")
    if not value:
        raise RowProblem("no messages")
    turns = [_numbered(number, message) for number, message in enumerate(value, 1)]
    turns = _calls_joined(turns)
    _require_order(turns)
    last = turns[-1]["role"]
    if end == "assistant" and last != "assistant":
        raise RowProblem(f"the last turn is the {last}'s: no answer to learn")
    if end == "prompt" and last not in ("user", "tool"):
        raise RowProblem(f"the last turn is the {last}'s: nothing is asked")
    return turns


def message_of(value: Any) -> Message:
    """One canonical message.

    Raises:
        RowProblem: wrong types, an unknown role, or an empty turn.
    """
    if not isinstance(value, dict):
        raise RowProblem(f"a turn is {shape(value)}, not an object")
    given = value.get("role")
    role = _ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        raise RowProblem(f"no role {str(given)[:20]!r}" if given else "a turn without role")
    message: Message = {"role": role, "content": _content(value.get("content"))}
    reasoning = next((value[name] for name in _REASONING if value.get(name)), None)
    calls = _calls(value)
    if role == "assistant":
        if reasoning is not None:
            message["reasoning_content"] = text_of(reasoning, "reasoning_content", blank=True)
        if calls:
            message["tool_calls"] = calls
    elif reasoning is not None or calls:
        raise RowProblem(f"a {role} turn with reasoning or tool_calls")
    if role == "tool":
        for name in ("tool_call_id", "name"):
            if value.get(name) is not None:
                message[name] = text_of(value[name], name)
    elif not message["content"].strip() and not calls:
        # Only a tool may have nothing to say.
        raise RowProblem(f"empty {role} turn")
    train = _train(value)
    return message if train is None else {**message, "train": train}


def tools_of(value: Any) -> list[Message]:
    """Tool schemas from a list or its JSON text; empty where there are none.

    Raises:
        RowProblem: not a list of functions with names.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    tools = parsed(value, "tools")
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise RowProblem(f"tools are {shape(tools)}, not a list")
    return [_tool(tool) for tool in tools]


def _tool(tool: Any) -> Message:
    # Some sets leave out OpenAI's envelope; templates expect it.
    if isinstance(tool, dict) and "function" not in tool:
        tool = {"type": "function", "function": tool}
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowProblem("a tool without a function's name")
    text_of(function["name"], "a tool's name")
    return {"type": "function", **tool}


def _numbered(number: int, message: Any) -> Message:
    try:
        return message_of(message)
    except RowProblem as problem:
        raise RowProblem(f"turn {number}: {problem}") from None


def _content(value: Any) -> str:
    """Text, or text parts joined by a line break, as vLLM joins them for a template."""
    if value is None:
        return ""
    if not isinstance(value, list):
        return text_of(value, "content", blank=True)
    parts = []
    for part in value:
        if isinstance(part, dict) and part.get("type") == "text":
            part = part.get("text")
        elif isinstance(part, dict):
            raise RowProblem(f"a content part of type {str(part.get('type'))[:20]!r}")
        parts.append(text_of(part, "a content part", blank=True))
    return "\n".join(parts)


def _calls(value: Mapping[str, Any]) -> list[Message]:
    calls = value.get("tool_calls")
    if calls is None and value.get("function_call") is not None:
        # OpenAI's form before tools.
        calls = [{"function": value["function_call"]}]
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise RowProblem(f"tool_calls are {shape(calls)}, not a list")
    return [tool_call(call) for call in calls]


def tool_call(call: Any) -> Message:
    """One call as templates read it, from OpenAI's form or from a bare name and arguments.

    Raises:
        RowProblem: no name, or arguments that are no object.
    """
    function = call.get("function", call) if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str):
        raise RowProblem("a tool call without a function's name")
    arguments = function.get("arguments")
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        arguments = {}
    arguments = parsed(arguments, "a tool call's arguments")
    if not isinstance(arguments, dict):
        raise RowProblem(f"a tool call's arguments are {shape(arguments)}, not an object")
    made: Message = {
        "type": "function",
        "function": {"name": text_of(name, "a tool call's name"), "arguments": arguments},
    }
    if call.get("id") is not None:
        made["id"] = text_of(call["id"], "a tool call's id")
    return made


def _train(value: Mapping[str, Any]) -> bool | None:
    """Whether the turn is learned: our flag, or OpenAI's fine-tuning ``weight`` of 0 or 1."""
    if value.get("train") is not None:
        if not isinstance(value["train"], bool):
            raise RowProblem(f"train is {shape(value['train'])}, not true or false")
        return value["train"]
    weight = value.get("weight")
    if weight is None:
        return None
    if isinstance(weight, bool) or weight not in (0, 1):
        raise RowProblem("weight is neither 0 nor 1")
    return bool(weight)


def _calls_joined(turns: Sequence[Message]) -> list[Message]:
    """An assistant's words and the calls that follow them are one turn, as an engine writes it."""
    joined: list[Message] = []
    for turn in turns:
        before = joined[-1] if joined else None
        if (
            before is not None
            and before["role"] == turn["role"] == "assistant"
            and turn.get("tool_calls")
            and not turn["content"].strip()
            and "reasoning_content" not in turn
            and before.get("train") == turn.get("train")
        ):
            calls = [*before.get("tool_calls", ()), *turn["tool_calls"]]
            joined[-1] = {**before, "tool_calls": calls}
        else:
            joined.append(turn)
    return joined


def _require_order(turns: Sequence[Message]) -> None:
    before: Message = {"role": ""}
    for number, turn in enumerate(turns, 1):
        role, last = turn["role"], before["role"]
        if role == "system" and number == 1:
            before = turn
            continue
        called = role != "tool" or last == "tool" or before.get("tool_calls")
        if role not in _NEXT[last] or not called:
            after = f"after the {last}'s" if last else "comes first"
            raise RowProblem(f"turn {number}: the {role}'s {after}")
        before = turn
