"""A client's conversation as every engine reads it, so that it makes the ids of training."""

from __future__ import annotations

from typing import Any

from pipeline.core.controls import Controls, as_served
from serve.gateway.errors import ApiError


def as_rendered(body: dict[str, Any], controls: Controls) -> dict[str, Any]:
    """The request with its texts neutralised and put in the one form that was rendered for.

    Text parts are joined by a line break and reasoning goes by both of its names: engines
    differ there. Tools are put as vLLM gives them to a template.

    Raises:
        ApiError: 400 where a tool call's arguments are nested too deeply.
    """
    try:
        messages = [_plain(message) for message in body["messages"]]
        made = {**body, "messages": controls.messages(messages)}
    except ValueError as error:
        raise ApiError(400, str(error), param="messages", code="invalid_value") from None
    if body.get("tools"):
        made["tools"] = as_served(controls.value(body["tools"]))
        # It names one of them, and must go on naming it.
        made |= {k: controls.value(body[k]) for k in ("tool_choice",) if k in body}
    return made


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    made = dict(message)
    if isinstance(made.get("content"), list):
        # A part without text is none, as in vLLM.
        made["content"] = "\n".join(part["text"] for part in made["content"] if part["text"])
    reasoning = made.get("reasoning_content", made.get("reasoning"))
    if reasoning is not None:
        made["reasoning"] = made["reasoning_content"] = reasoning
    return made
