"""Texts must not speak for the chat template: one rule, kept with the model.

Engines read a template's control tokens wherever they stand, in a user's text too (vLLM
#31735, transformers #29279). The rule puts a separator, a character that shows nothing, after
the first character of every control string in a caller's text; where separators stand there
already it adds one, so that it can be undone. Training, evaluation and the gateway apply the
same rule, so they make the same ids. It is to be applied once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Message = dict[str, Any]
_FUNCTION = ("name", "description", "parameters", "strict", "defer_loading")
_TOO_DEEP = "a tool call's arguments are nested too deeply"


@dataclass(frozen=True)
class Controls:
    """The rule for one tokenizer and template; without control strings it changes nothing.

    Attributes:
        always: strings that no text of a message may hold: the special tokens.
        outside_assistant: strings that an assistant's own text may hold, e.g. ``<think>``.
        separator: the one character that is put in, part of no control string.
        ignore_case: strings that differ by case only are control strings too.
    """

    always: tuple[str, ...] = ()
    outside_assistant: tuple[str, ...] = ()
    separator: str = field(default="\u2060")
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if len(self.separator) != 1:
            raise ValueError(f"the separator {self.separator!r} is not one character")
        for control in (*self.always, *self.outside_assistant):
            if len(control) < 2:
                raise ValueError(f"the control string {control!r} is shorter than 2 characters")
            if self.separator in control:
                raise ValueError(f"the control string {control!r} holds the separator")

    def neutralise(self, text: str, *, assistant: bool = False) -> str:
        """The text without control strings.

        Args:
            assistant: the text is an assistant's own.
        """
        pattern, separator = self._pattern(assistant), self.separator
        if pattern is None:
            return text
        if separator not in text:
            return pattern.sub(rf"\g<0>{separator}", text)
        return self._shift(text, pattern, 1)

    def restore(self, text: str, *, assistant: bool = False) -> str:
        """The text as it was before ``neutralise``."""
        pattern = self._pattern(assistant)
        if pattern is None or self.separator not in text:
            return text
        return self._shift(text, pattern, -1)

    def messages(self, messages: Iterable[Mapping[str, Any]]) -> list[Message]:
        """Every string of every message neutralised, roles apart.

        Raises:
            ValueError: a tool call's arguments are nested too deeply to be read.
        """
        return [self._message(message) for message in messages]

    def value(self, value: Any, *, assistant: bool = False) -> Any:
        """Every string of a JSON value neutralised, keys of objects too."""
        if isinstance(value, str):
            return self.neutralise(value, assistant=assistant)
        if isinstance(value, list | tuple):
            return [self.value(each, assistant=assistant) for each in value]
        if isinstance(value, dict):
            return {
                self.value(key, assistant=assistant): self.value(each, assistant=assistant)
                for key, each in value.items()
            }
        return value

    def to_json(self) -> dict[str, Any]:
        """For render.json and bundle.json."""
        return {
            "always": list(self.always),
            "outside_assistant": list(self.outside_assistant),
            "separator": self.separator,
            "ignore_case": self.ignore_case,
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Controls:
        """What ``to_json`` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            always, outside = tree["always"], tree["outside_assistant"]
            separator, ignore_case = tree["separator"], tree.get("ignore_case", False)
            strings = [*always, *outside, separator]
        except (KeyError, TypeError, AttributeError):
            raise ValueError("controls need always, outside_assistant and separator") from None
        if not all(isinstance(each, str) for each in strings) or not isinstance(ignore_case, bool):
            raise ValueError("controls are strings, and ignore_case is true or false")
        return cls(tuple(always), tuple(outside), separator, ignore_case)

    def _message(self, message: Mapping[str, Any]) -> Message:
        assistant = message.get("role") == "assistant"
        made: Message = {}
        for name, value in message.items():
            if name == "role" or value is None or isinstance(value, bool):
                made[name] = value
            elif name == "tool_calls" and isinstance(value, list):
                made[name] = [self._call(call, assistant) for call in value]
            else:
                made[name] = self.value(value, assistant=assistant)
        return made

    def _call(self, call: Any, assistant: bool) -> Any:
        """A tool call, its arguments neutralised inside their JSON text.

        An engine parses that text and the template writes it again: an escape like ``\\u003c``
        would hide a control string from a rule that looks at the text alone.
        """
        if not isinstance(call, dict):
            return self.value(call, assistant=assistant)
        if isinstance(call.get("function"), dict):
            rest = {name: value for name, value in call.items() if name != "function"}
            made: Message = self.value(rest, assistant=assistant)
            return {**made, "function": self._call(call["function"], assistant)}
        made = self.value(call, assistant=assistant)
        text = call.get("arguments")
        if isinstance(text, str) and "\\" in text and (inner := arguments_of(text)):
            try:
                inner = self.value(inner, assistant=assistant)
                made["arguments"] = json.dumps(inner, ensure_ascii=False)
            except RecursionError:
                raise ValueError(_TOO_DEEP) from None
        return made

    def _pattern(self, assistant: bool) -> re.Pattern[str] | None:
        return self._in_assistant if assistant else self._elsewhere

    @cached_property
    def _in_assistant(self) -> re.Pattern[str] | None:
        return _starts(self.always, self.ignore_case)

    @cached_property
    def _elsewhere(self) -> re.Pattern[str] | None:
        return _starts((*self.always, *self.outside_assistant), self.ignore_case)

    def _shift(self, text: str, pattern: re.Pattern[str], step: int) -> str:
        """One separator more or less wherever a control string would stand without any.

        Where they stand is found in the text without separators: adding or taking some away
        does not move those places, which is why the rule can be undone.
        """
        separator = self.separator
        starts = {found.start() for found in pattern.finditer(text.replace(separator, ""))}
        if not starts:
            return text
        out: list[str] = []
        index, due = -1, False
        for character in text:
            if character == separator:
                if due:
                    due = False
                    continue
            else:
                index += 1
                due = step < 0 and index in starts
            out.append(character)
            if step > 0 and character != separator and index in starts:
                out.append(separator)
        return "".join(out)


def as_served(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tool definitions with the keys, and in the order, that vLLM gives a template.

    vLLM 0.32 rebuilds them (``FunctionDefinition``): unknown keys go, and a description or
    parameters that are missing are null; the template then writes other text.
    """
    made = []
    for tool in tools:
        function = tool.get("function")
        if not isinstance(function, Mapping):
            made.append(dict(tool))
            continue
        kept = {"name": None, "description": None, "parameters": None}
        kept |= {name: function[name] for name in _FUNCTION if function.get(name) is not None}
        made.append({"type": tool.get("type", "function"), "function": kept})
    return made


def arguments_of(text: str) -> dict[str, Any]:
    """A tool call's arguments from their JSON text, as vLLM reads it: no object is an empty one.

    Raises:
        ValueError: nested too deeply.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _starts(controls: Iterable[str], ignore_case: bool) -> re.Pattern[str] | None:
    """Matches the first character of every control string, where they overlap too."""
    tails: dict[str, list[str]] = {}
    for control in sorted(set(controls)):
        tails.setdefault(control[0], []).append(re.escape(control[1:]))
    if not tails:
        return None
    # By first character, so that a search skips all other characters at the speed of C.
    branches = [f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in tails.items()]
    return re.compile("|".join(branches), re.IGNORECASE if ignore_case else 0)
