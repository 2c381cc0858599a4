"""POST /v1/classify: texts or conversations in, calibrated probabilities out.

The engine renders and pools, exactly as for a chat; the head is applied here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pipeline.core.controls import Controls
from pipeline.core.errors import ModelError
from serve.gateway.conversation import as_rendered
from serve.gateway.errors import ApiError
from serve.heads import Answer, Head

Ask = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]
"""A path and a body to the engine's status and bytes; raises ApiError where it is away."""

MAX_INPUTS = 256
_AT_ONCE = 16
_Number = float | int | Annotated[str, StringConstraints(max_length=64)]


class _Edge(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Message(_Edge):
    # A head reads what was said; nobody calls tools here.
    role: str = Field(pattern="^(system|developer|user|assistant)$")
    content: str


_Messages = Annotated[list[_Message], Field(min_length=1, max_length=1024)]
_Features = dict[Annotated[str, StringConstraints(max_length=128)], _Number]


class ClassifyRequest(_Edge):
    """The allow-list of POST /v1/classify: one of ``input`` and ``messages``, one or many.

    Attributes:
        model: a public name.
        input: a text, or several.
        messages: a conversation, or several.
        features: where the head takes columns beside the text: one object for each input.
    """

    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)] | None = None
    messages: (
        _Messages | Annotated[list[_Messages], Field(min_length=1, max_length=MAX_INPUTS)] | None
    ) = None
    features: _Features | Annotated[list[_Features], Field(max_length=MAX_INPUTS)] | None = None
    user: str | None = None


@dataclass(frozen=True)
class Asked:
    """What a head is asked, in order: conversations as a chat would have them."""

    conversations: tuple[list[dict[str, Any]], ...]
    features: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Reading:
    """How the engine is asked for a head's states.

    Attributes:
        served: the engine's name for the model.
        chat: prompts are rendered by the chat template; else the text alone is read.
        system: the text that opens a conversation which has none.
        controls, template_kwargs: as in the bundle.
    """

    served: str
    chat: bool
    system: str | None
    controls: Controls
    template_kwargs: Mapping[str, Any]


def parse_classify(body: Mapping[str, Any]) -> Asked:
    """A body that is a JSON object already, checked.

    Raises:
        ApiError: 400 with the field at fault.
    """
    try:
        parsed = ClassifyRequest.model_validate(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        first = max(errors, key=lambda each: len(each["loc"]))
        place = str(first["loc"][0]) if first["loc"] else "body"
        code = "unknown_field" if first["type"] == "extra_forbidden" else "invalid_value"
        raise ApiError(400, f"{place}: {first['msg']}", param=place, code=code) from None
    if (parsed.input is None) == (parsed.messages is None):
        raise ApiError(400, "Give one of input and messages", param="input", code="invalid_value")
    conversations = _conversations(parsed)
    given = parsed.features
    features = [{}] * len(conversations) if given is None else given
    listed = [features] if isinstance(features, dict) else features
    if len(listed) != len(conversations):
        raise ApiError(
            400,
            f"features: {len(listed)} objects for {len(conversations)} inputs; give one for each",
            param="features",
            code="invalid_value",
        )
    return Asked(tuple(conversations), tuple(listed))


def _conversations(parsed: ClassifyRequest) -> list[list[dict[str, Any]]]:
    if parsed.input is not None:
        texts = [parsed.input] if isinstance(parsed.input, str) else parsed.input
        return [[{"role": "user", "content": text}] for text in texts]
    assert parsed.messages is not None
    many: Any = parsed.messages
    if isinstance(many[0], _Message):
        many = [many]
    return [[message.model_dump() for message in one] for one in many]


Answered = tuple[dict[str, Any], list[Answer], int]
"""The answer's JSON, its answers for the metrics, prompt tokens."""


async def classify(
    name: str, version: str, head: Head, reading: Reading, asked: Asked, ask: Ask
) -> Answered:
    """Asks the engine for the states of every input and answers by the head.

    Raises:
        ApiError: features that a head cannot take; what the engine refuses; 502 for an engine
            whose states are no numbers or of another size.
    """
    # Before anything is asked: one bad row must not cost the engine a hundred good ones.
    extra = [
        _features(head, index, conversation, given)
        for index, (conversation, given) in enumerate(
            zip(asked.conversations, asked.features, strict=True)
        )
    ]
    bodies = [_body(reading, conversation) for conversation in asked.conversations]

    async def one(index: int) -> tuple[Answer, int]:
        states, count = _states(*await ask("/pooling", bodies[index]))
        try:
            return head.answer(head.logits(states, extra[index])), count
        except ModelError as error:
            raise ApiError(502, str(error), code="engine_error") from None

    return await each_answered(name, version, len(bodies), one)


async def each_answered(
    name: str, version: str, inputs: int, one: Callable[[int], Awaitable[tuple[Answer, int]]]
) -> Answered:
    """Answers some inputs at a time, in their order.

    Args:
        one: the number of an input to its answer and the tokens that were read.

    Raises:
        ApiError: the first that one of them raises; the others are ended.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def gated(index: int) -> tuple[Answer, int]:
        async with gate:
            return await one(index)

    tasks = [asyncio.ensure_future(gated(index)) for index in range(inputs)]
    try:
        found = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    answers = [answer for answer, _ in found]
    tokens = sum(count for _, count in found)
    tree = {
        "id": f"classify-{uuid.uuid4().hex}",
        "object": "classification",
        "created": int(time.time()),
        "model": name,
        "version": version,
        "data": [_told(index, answer) for index, answer in enumerate(answers)],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens},
    }
    return tree, answers, tokens


def _features(
    head: Head, index: int, conversation: list[dict[str, Any]], given: Mapping[str, Any]
) -> list[float]:
    unknown = sorted(set(given) - set(head.columns))
    if unknown:
        takes = f"it takes {', '.join(head.columns)}" if head.columns else "it takes none"
        raise ApiError(
            400, f"features[{index}]: the head knows no {unknown[0][:64]}; {takes}",
            param="features", code="invalid_value",
        )  # fmt: skip
    text = "\n".join(m["content"] for m in conversation if m["role"] == "user")
    try:
        return head.features(text, given)
    except ValueError as error:
        raise ApiError(
            400, f"features[{index}]: {error}", param="features", code="invalid_value"
        ) from None


def conversation_body(reading: Reading, conversation: list[dict[str, Any]]) -> dict[str, Any]:
    """What the engine is asked to render: the ids after which a label would be written."""
    opened = conversation[0]["role"] in {"system", "developer"}
    if reading.system is not None and not opened:
        conversation = [{"role": "system", "content": reading.system}, *conversation]
    body = as_rendered({"messages": conversation}, reading.controls)
    body["add_generation_prompt"] = True
    if reading.template_kwargs:
        body["chat_template_kwargs"] = dict(reading.template_kwargs)
    return body


def _body(reading: Reading, conversation: list[dict[str, Any]]) -> bytes:
    body: dict[str, Any] = {"model": reading.served, "encoding_format": "base64"}
    if reading.chat:
        body |= conversation_body(reading, conversation)
    else:
        text = "\n".join(message["content"] for message in conversation)
        body["input"] = reading.controls.neutralise(text)
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ApiError(400, "The body holds text that is not Unicode") from None


def engine_words(status: int, data: bytes) -> Any:
    """The JSON of an engine's answer.

    Raises:
        ApiError: the engine refused, or failed.
    """
    try:
        tree = json.loads(data)
    except ValueError:
        raise ApiError(502, "The engine's answer is no JSON", code="engine_error") from None
    if status != 200:
        told = tree.get("error", tree) if isinstance(tree, dict) else tree
        words = told.get("message", told) if isinstance(told, dict) else told
        raise ApiError(400 if status < 500 else 502, f"The engine said: {str(words)[:300]}")
    return tree


def _states(status: int, data: bytes) -> tuple[Sequence[float], int]:
    """The engine's pooled state, float32, and how many tokens it read."""
    tree = engine_words(status, data)
    try:
        raw = base64.b64decode(tree["data"][0]["data"], validate=True)
        states: list[float] = np.frombuffer(raw, dtype="<f4").tolist()
        return states, int(tree["usage"]["prompt_tokens"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, binascii.Error):
        raise ApiError(502, "The engine's answer holds no states", code="engine_error") from None


def _told(index: int, answer: Answer) -> dict[str, Any]:
    tree: dict[str, Any] = {"index": index}
    if answer.value is not None:
        return {**tree, "value": answer.value}
    assert answer.probabilities is not None
    if answer.labels is not None:
        return {**tree, "labels": list(answer.labels), "probabilities": dict(answer.probabilities)}
    likeliest = max(answer.probabilities, key=answer.probabilities.__getitem__)
    return {
        **tree,
        # Null rather than a guess: who does not look at `abstained` must not act on one.
        "label": answer.label,
        "abstained": answer.abstained,
        "likeliest": likeliest,
        "probability": answer.probabilities[likeliest],
        "probabilities": dict(answer.probabilities),
    }
