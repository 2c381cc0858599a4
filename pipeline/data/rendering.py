"""Rows to token ids, once: through the tokenizer's own chat template, never from text again.

One renderer serves training, evaluation and the classifier's input. The supervised tokens of
an assistant turn are those that follow what serving would put before it (the generation
prompt), up to and including the template's end of turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import DataError, ModelError

Message = dict[str, str]


@dataclass(frozen=True)
class Rendered:
    """One row as the model sees it.

    Attributes:
        input_ids: token ids, length T.
        supervised: T flags, 1 where the token is in the loss.
    """

    input_ids: list[int]
    supervised: list[int]


class Renderer:
    """Turns rows into ids with one tokenizer and one template."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        causal: bool,
        system: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.causal = causal
        self._system = system
        self._kwargs = dict(template_kwargs or {})

    def text(self, text: str) -> Rendered:
        """A document: every token is supervised; a causal one ends with end-of-text."""
        ids = list(self.tokenizer(text, truncation=False)["input_ids"])
        eos = self.tokenizer.eos_token_id
        if self.causal and eos is not None and (not ids or ids[-1] != eos):
            ids.append(eos)
        return Rendered(ids, [1] * len(ids))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the conversation so far and the generation prompt: what serving makes."""
        return self._ids(messages, add_generation_prompt=True)

    def conversation(self, messages: Sequence[Message], *, all_supervised: bool) -> Rendered:
        """A conversation that ends with the assistant.

        The last assistant turn is supervised; earlier ones are where their rendering is the
        prefix that serving would make (thinking templates rewrite earlier turns).

        Raises:
            ModelError: a template whose generation prompt is not a prefix of the whole.
        """
        full = self._ids(messages, add_generation_prompt=False)
        supervised = [0] * len(full)
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self.prompt(messages[:index])
            until = self._ids(messages[: index + 1], add_generation_prompt=False)
            if full[: len(prompt)] == prompt and full[: len(until)] == until:
                supervised[len(prompt) : len(until)] = [1] * (len(until) - len(prompt))
            elif index == len(messages) - 1:
                raise ModelError(
                    "chat_template: the generation prompt is not a prefix of the rendered turn, so "
                    "training would see ids that serving never makes; set data.chat_template_kwargs"
                    " (e.g. enable_thinking: false) or data.chat_template"
                )
        if all_supervised:
            supervised = [1] * len(full)
        if not any(supervised):
            raise DataError(
                "a row without supervised tokens: its assistant turn renders to nothing"
            )
        return Rendered(full, supervised)

    def question(self, text: str) -> list[int]:
        """Ids from which a classifier reads, and after which a label-writer writes."""
        if self.tokenizer.chat_template is None:
            return list(self.tokenizer(text, truncation=False)["input_ids"])
        return self.prompt(self.messages(text))

    def messages(self, text: str, answer: str | None = None) -> list[Message]:
        """One exchange with the recipe's system text before it."""
        found = [] if self._system is None else [{"role": "system", "content": self._system}]
        found.append({"role": "user", "content": text})
        if answer is not None:
            found.append({"role": "assistant", "content": answer})
        return found

    def with_system(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, opened by the recipe's system text where they have none."""
        if self._system is None or (messages and messages[0]["role"] == "system"):
            return list(messages)
        return [{"role": "system", "content": self._system}, *messages]

    def _ids(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> list[int]:
        if self.tokenizer.chat_template is None:
            raise ModelError(
                "base: its tokenizer has no chat_template, which objective sft needs; set "
                "data.chat_template to a Jinja file or choose a base with one"
            )
        encoded = self.tokenizer.apply_chat_template(
            list(messages),
            tokenize=True,
            add_generation_prompt=add_generation_prompt,
            return_dict=True,
            **self._kwargs,
        )
        return list(encoded["input_ids"])
