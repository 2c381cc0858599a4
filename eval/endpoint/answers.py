"""Answers that a served model writes: freely, or constrained to the labels."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.answers import final_answer, normalised_answer
from eval.endpoint.client import Endpoint, Refused, Unanswered
from eval.endpoint.items import Asked, Item, Message
from eval.record import Prediction
from pipeline.core.errors import UserError

CHAT = "/chat/completions"
# What else an endpoint may call the end (stop, eos_token, end_turn, nothing) is no cut.
_CUT = frozenset({"length", "model_length", "content_filter"})
# Words that no model writes by itself: whoever answers with one heeds the constraint.
_PROBE = ("gradus-probe-quartz", "gradus-probe-obelisk")
FAILED = (Refused, Unanswered, UserError)
"""What a probe may meet."""


@dataclass(frozen=True)
class Written:
    """What came back for one question.

    Attributes:
        text: what the model wrote.
        finish: how it came to its end, in the endpoint's word; empty where it does not say.
        prompt_tokens, output_tokens: as the endpoint counts them; 0 where it does not.
    """

    text: str
    finish: str
    prompt_tokens: int
    output_tokens: int

    @property
    def cut(self) -> bool:
        """Whether the model would have written on."""
        return self.finish in _CUT


def read_chat(body: Any) -> Written:
    """The one choice of a chat completion.

    Raises:
        ValueError, LookupError, TypeError, OverflowError: there is none.
    """
    if not body["choices"]:
        raise ValueError("it holds no choice")
    choice = body["choices"][0]
    text, finish = choice["message"].get("content"), choice.get("finish_reason")
    if text is None and finish:
        text = ""
    if not isinstance(text, str):
        raise ValueError("its choice holds no text")
    # Half of a surrogate pair, as JSON may hold it, can stand in no file: it becomes a mark.
    text = text.encode("utf-8", "replace").decode("utf-8")
    usage = body.get("usage") or {}
    prompt, output = (int(usage.get(f"{of}_tokens") or 0) for of in ("prompt", "completion"))
    if min(prompt, output) < 0:
        raise ValueError(f"it counts {min(prompt, output)} tokens")
    return Written(text, str(finish or ""), prompt, output)


async def closed(endpoint: Endpoint, messages: Sequence[Message], failure: Exception) -> str:
    """Why one form of asking is closed, where a plain request is answered all the same.

    An endpoint that is away or refuses the key fails in every form: the run then ends, and what
    was answered is kept.

    Args:
        messages: of a plain request.
        failure: what the probe of the form met, one of FAILED.

    Returns:
        the failure without the remedies that it ends in: other arms go on.

    Raises:
        Unanswered, UserError: the failure where it tells of the moment; else what the plain
            request met.
    """
    if isinstance(failure, Unanswered) and failure.passes:
        raise failure
    body = {"messages": list(messages), "max_tokens": 1, "temperature": 0}
    # Whoever refuses this one request is there.
    with contextlib.suppress(Refused):
        await endpoint.post(CHAT, body, read_chat, "a plain request")
    told = str(failure)
    return told if isinstance(failure, Refused) else told.partition("; ")[0]


def room_for(labels: Sequence[str], max_new_tokens: int) -> int:
    """Tokens in which every label has room, and so many at least."""
    # No token is shorter than a byte; some room for the end.
    return max(max_new_tokens, 8 + max(len(label.encode()) for label in (*labels, *_PROBE)))


def chat_body(asked: Asked, item: Item, max_tokens: int) -> dict[str, Any]:
    """A greedy request for one answer, without the model's name."""
    body: dict[str, Any] = {
        "messages": list(item.messages),
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    if asked.template_kwargs:
        body["chat_template_kwargs"] = dict(asked.template_kwargs)
    return body


class Writer:
    """Arm ``generate``: the answer counts where it is exactly a label and was not cut.

    ``card`` cut off by the length limit could have become ``card_arrival``.
    """

    arm = "generate"

    def __init__(self, endpoint: Endpoint, asked: Asked, max_new_tokens: int) -> None:
        self.endpoint, self.asked, self.max_tokens = endpoint, asked, max_new_tokens
        self._labels = None if asked.labels is None else frozenset(asked.labels)

    async def probe(self) -> str | None:
        """Why the endpoint cannot be asked in this form; None where it can."""
        return None

    async def answer(self, item: Item) -> dict[str, Prediction]:
        """One answer by arm.

        Raises:
            Refused, Unanswered, UserError: see ``Endpoint.post``.
        """
        body = {**chat_body(self.asked, item, self.max_tokens), **self._extra()}
        who = f"suite {self.asked.suite}, row {item.example_id}"
        written, seconds = await self.endpoint.post(CHAT, body, read_chat, who)
        return {
            self.arm: Prediction(
                example_id=item.example_id,
                gold=self._gold(item),
                label=None if written.cut else self._label(written.text),
                scores=None,
                raw_text=self.endpoint.without_key(written.text),
                latency_s=seconds,
                prompt_tokens=written.prompt_tokens,
                output_tokens=written.output_tokens,
            )
        }

    def _extra(self) -> dict[str, Any]:
        return {}

    def _label(self, text: str) -> str | None:
        if self._labels is None:
            return normalised_answer(final_answer(text, self.asked.answer_after)) or None
        label = text.strip()
        return label if label in self._labels else None

    def _gold(self, item: Item) -> str:
        if self._labels is None:
            return normalised_answer(final_answer(item.gold, self.asked.answer_after))
        return item.gold


class Chooser(Writer):
    """Arm ``constrained``: decoding limited to the labels, greedy.

    By ``structured_outputs: {choice: [...]}``, as vLLM has it (0.12 and later; the older
    ``guided_choice`` is ignored there without a word).
    """

    arm = "constrained"

    def __init__(self, endpoint: Endpoint, asked: Asked, max_new_tokens: int) -> None:
        assert asked.labels is not None
        super().__init__(endpoint, asked, room_for(asked.labels, max_new_tokens))
        self._choice = list(asked.labels)

    async def probe(self) -> str | None:
        """Offers two words that no model would write by itself."""
        body = chat_body(self.asked, self.asked.items[0], self.max_tokens)
        body["structured_outputs"] = {"choice": list(_PROBE)}
        try:
            written, _ = await self.endpoint.post(CHAT, body, read_chat, "probe of constrained")
        except FAILED as failure:
            why = await closed(self.endpoint, self.asked.items[0].messages, failure)
            return f"the endpoint refuses structured_outputs ({why})"
        if written.text.strip() not in _PROBE:
            return (
                "the endpoint ignores structured_outputs: offered two words, it wrote "
                f"{self.endpoint.without_key(written.text)[:40]!r}"
            )
        return None

    def _extra(self) -> dict[str, Any]:
        return {"structured_outputs": {"choice": self._choice}}
