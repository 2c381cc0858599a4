"""A conversation to text, through the tokenizer's own chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.controls import arguments_of, as_served
from pipeline.core.errors import ModelError
from pipeline.data.rows import RowProblem

Message = dict[str, Any]
_LONGEST_REASON = 200
# What Jinja and the Python under it raise for a conversation that a template does not expect.
_FAILURES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class ChatTemplate:
    """One tokenizer's template with the arguments that the recipe fixed."""

    def __init__(self, tokenizer: Any, kwargs: Mapping[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._kwargs = {**tokenizer.special_tokens_map, **kwargs}
        self._source: dict[bool, str] = {}

    def text(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        prompt: bool = False,
    ) -> str:
        """The rendered conversation.

        Args:
            messages: as ``as_template`` gives them.
            tools: definitions, as ``core.controls.as_served`` gives them.
            prompt: with the words that open the assistant's next turn.

        Raises:
            RowProblem: the template refuses the conversation, or a text is not Unicode.
            ModelError: the tokenizer has no template.
        """
        from jinja2.exceptions import TemplateError
        from transformers.utils import chat_template_utils

        render: Any = chat_template_utils.render_jinja_template
        try:
            rendered, _ = render(
                conversations=[messages],
                tools=tools or None,
                chat_template=self._chosen(bool(tools)),
                add_generation_prompt=prompt,
                **self._kwargs,
            )
            text = str(rendered[0])
            if not text.isascii():
                text.encode()
        except UnicodeEncodeError:
            raise RowProblem("text that is not Unicode (a lone surrogate)") from None
        except (TemplateError, *_FAILURES) as error:
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            raise RowProblem(f"the chat template refuses it: {reason}") from None
        return text

    def _chosen(self, tools: bool) -> str:
        """Its source: a tokenizer may have a template of its own for tools."""
        if tools not in self._source:
            if not self._tokenizer.chat_template:
                raise ModelError(
                    "base: its tokenizer has no chat_template, which objective sft needs; set "
                    "data.chat_template to a Jinja file or choose a base with one"
                )
            try:
                chosen = self._tokenizer.get_chat_template(None, [{}] if tools else None)
            except ValueError as error:
                raise ModelError(
                    f"base: {str(error).partition('.')[0]}; set data.chat_template to a Jinja file"
                ) from None
            self._source[tools] = str(chosen)
        return self._source[tools]


def as_template(message: Mapping[str, Any]) -> Message:
    """A message with the keys, and in the form, that vLLM 0.32 gives a template.

    No content is empty content, parts are joined by a line break, a call's arguments are an
    object, and reasoning goes by both of its names (``renderers/chat_utils.py``).

    Raises:
        ValueError: a tool call's arguments are nested too deeply.
    """
    made: Message = {"role": message["role"], "content": _content(message.get("content"))}
    reasoning = message.get("reasoning_content", message.get("reasoning"))
    if reasoning is not None:
        made["reasoning"] = made["reasoning_content"] = reasoning
    if message.get("tool_calls"):
        made["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    for name in ("tool_call_id", "name"):
        if message.get(name) is not None:
            made[name] = message[name]
    return made


def tools_as_template(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Tool definitions for a template; None where there are none."""
    return as_served(tools) if tools else None


def reads(template: str | Mapping[str, str] | None, name: str) -> bool:
    """Whether a template (or one of several) reads an argument of this name."""
    return bool(re.search(rf"\b{re.escape(name)}\b", source_of(template)))


def source_of(template: str | Mapping[str, str] | None) -> str:
    """All of a tokenizer's templates as one text."""
    if isinstance(template, Mapping):
        return "\n".join(template.values())
    return template or ""


def _content(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    texts = [part.get("text", "") if isinstance(part, dict) else str(part) for part in value]
    return "\n".join(text for text in texts if text)


def _call(call: Any) -> Any:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _call(call["function"])}
    arguments = call.get("arguments")
    if isinstance(arguments, str):
        arguments = arguments_of(arguments)
    return {**call, "arguments": arguments or {}}
