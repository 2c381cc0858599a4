"""Log-probabilities of answers under a served model, where the endpoint gives those of prompts.

Two ways. By exact ids: ``/completions`` takes the ids that the recipe renders, echoes them and
gives their log-probabilities. By messages: ``/chat/completions`` renders question and answer
itself and gives ``prompt_logprobs`` and the ids it made (vLLM); what the template puts around
an answer is found by comparing two answers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eval.endpoint.answers import CHAT, FAILED, closed
from eval.endpoint.client import Endpoint
from eval.endpoint.items import Asked, Message
from pipeline.core.errors import DataError, EngineError

COMPLETIONS = "/completions"
PROBE = "probe of likelihood"
ANSWERS = ("A", "7")
"""Two answers without a token in common: what they share is the template's."""


@dataclass(frozen=True)
class Pair:
    """A question and one answer to it; ``ids`` where the recipe renders them.

    Attributes:
        question_ids: as the recipe renders the question.
        answer_ids: what the answer adds to them, its end of turn last.
        counted: of each of those, whether it is the answer's own and not the template's.
    """

    messages: tuple[Message, ...]
    answer: str
    question_ids: tuple[int, ...] = ()
    answer_ids: tuple[int, ...] = ()
    counted: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Score:
    """How likely an answer is.

    Attributes:
        logprob: summed over its tokens, the end of its turn included, in nats.
        tokens: how many those are.
        read: tokens that the endpoint read for it.
    """

    logprob: float
    tokens: int
    read: int


class Scorer(Protocol):
    """One way to an endpoint's log-probabilities."""

    async def probe(self, pair: Pair) -> str | None:
        """Why this way is closed, or None where it is open; called once, before ``scores``.

        Raises:
            Unanswered, UserError: the endpoint is away, or refuses the key.
        """

    async def scores(self, pairs: Sequence[Pair], who: str) -> tuple[list[Score], float]:
        """Scores in the order of the pairs, and the seconds of all requests, one after another."""


class IdScorer:
    """By exact ids, the pairs of one item in one request."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._turns = _turns(endpoint)

    async def probe(self, pair: Pair) -> str | None:
        """Asks for one pair, twice in one request: an item sends several."""
        if not pair.answer_ids:
            return "no recipe says which ids a question has"
        try:
            await self._all([pair, pair], PROBE)
        except _Closed as reason:
            why = str(reason)
        except FAILED as failure:
            why = await closed(self.endpoint, pair.messages, failure)
        else:
            return None
        return f"it does not take ids with echo and logprobs ({why})"

    async def scores(self, pairs: Sequence[Pair], who: str) -> tuple[list[Score], float]:
        """See ``Scorer``."""
        try:
            return await self._all(pairs, who)
        except _Closed as reason:
            raise _not_closed_before(who, reason) from None

    async def _all(self, pairs: Sequence[Pair], who: str) -> tuple[list[Score], float]:
        if not self.endpoint.adapters:
            return await self._scored(pairs, who)
        found = [await self._scored([pair], who) for pair in pairs]
        return [score for scores, _ in found for score in scores], sum(s for _, s in found)

    async def _scored(self, pairs: Sequence[Pair], who: str) -> tuple[list[Score], float]:
        body = {
            "prompt": [[*pair.question_ids, *pair.answer_ids] for pair in pairs],
            "echo": True,
            "logprobs": 1,
            "max_tokens": 1,
            "temperature": 0,
        }
        async with self._turns:
            return await self.endpoint.post(COMPLETIONS, body, lambda b: _echoed(b, pairs), who)


class MessageScorer:
    """By messages: one request for a question by itself and one for each answer."""

    def __init__(self, endpoint: Endpoint, asked: Asked) -> None:
        self.endpoint, self.asked = endpoint, asked
        self._turns = _turns(endpoint)
        self._opening = 0
        self._closing: list[int] = []
        # By the identity of the messages, which are kept beside: a channel's are few.
        self._questions: dict[int, tuple[tuple[Message, ...], list[int]]] = {}

    async def probe(self, pair: Pair) -> str | None:
        """Finds what the template puts before and after an answer."""
        try:
            question, _ = await self._ids(list(pair.messages), True, PROBE)
            (one, _, _), (other, _, _) = [
                (await self._turn(pair.messages, answer, PROBE))[0] for answer in ANSWERS
            ]
        except _Closed as reason:
            return str(reason)
        except FAILED as failure:
            why = await closed(self.endpoint, pair.messages, failure)
            return f"the endpoint gives no prompt log-probabilities ({why})"
        opening = shared(one, other) - len(question)
        closing = shared(one[::-1], other[::-1])
        if one[: len(question)] != question or opening < 0:
            return "its chat template changes the question once it is answered"
        if not closing:
            return "its chat template puts no token at the end of an answer"
        self._opening = opening
        self._closing = one[len(one) - closing :]
        return None

    async def scores(self, pairs: Sequence[Pair], who: str) -> tuple[list[Score], float]:
        """See ``Scorer``."""
        new = {id(pair.messages): pair.messages for pair in pairs}
        new = {one: messages for one, messages in new.items() if one not in self._questions}
        try:
            questions = await asyncio.gather(
                *(self._ids(list(messages), True, who) for messages in new.values())
            )
            turns = await asyncio.gather(
                *(self._turn(pair.messages, pair.answer, who) for pair in pairs)
            )
        except _Closed as reason:
            raise _not_closed_before(who, reason) from None
        for (one, messages), (ids, _) in zip(new.items(), questions, strict=True):
            self._questions[one] = messages, ids
        scores = [
            self._score(self._questions[id(pair.messages)][1], turn, who)
            for pair, (turn, _) in zip(pairs, turns, strict=True)
        ]
        return scores, sum(s for _, s in questions) + sum(s for _, s in turns)

    def _score(
        self, question: list[int], turn: tuple[list[int], list[Any], int], who: str
    ) -> Score:
        ids, logprobs, read = turn
        first, last = len(question) + self._opening, len(ids) - len(self._closing) + 1
        fits = ids[: len(question)] == question and ids[last - 1 :] == self._closing
        if not fits or first >= last:
            raise DataError(
                f"{who}: the endpoint's template renders this answer otherwise than others; "
                "leave out arm likelihood"
            )
        counted = [_of_token(logprobs[place], ids[place]) for place in range(first, last)]
        return Score(math.fsum(counted), len(counted), read)

    async def _ids(
        self, messages: list[Message], prompt: bool, who: str
    ) -> tuple[list[int], float]:
        body = {**self._body(messages), "add_generation_prompt": prompt}
        async with self._turns:
            return await self.endpoint.post(CHAT, body, _prompt_ids, who)

    async def _turn(
        self, messages: Sequence[Message], answer: str, who: str
    ) -> tuple[tuple[list[int], list[Any], int], float]:
        whole = [*messages, {"role": "assistant", "content": answer}]
        body = {**self._body(whole), "add_generation_prompt": False, "prompt_logprobs": 0}
        async with self._turns:
            return await self.endpoint.post(CHAT, body, _with_logprobs, who)

    def _body(self, messages: Sequence[Message]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": list(messages),
            "max_tokens": 1,
            "temperature": 0,
            "return_token_ids": True,
        }
        if self.asked.template_kwargs:
            body["chat_template_kwargs"] = dict(self.asked.template_kwargs)
        return body


def _turns(endpoint: Endpoint) -> asyncio.Semaphore:
    """How many prompts may be scored at once."""
    return asyncio.Semaphore(1 if endpoint.adapters else endpoint.concurrency)


class _Closed(Exception):
    """The endpoint answers, and leaves out what a score is made of."""


def _not_closed_before(who: str, reason: _Closed) -> EngineError:
    return EngineError(f"{who}: {reason}, which it gave when it was probed")


def _prompt_ids(body: Any) -> list[int]:
    ids = body.get("prompt_token_ids")
    if ids is None:
        raise _Closed("the endpoint does not tell the ids of a prompt")
    return [int(i) for i in ids]


def _with_logprobs(body: Any) -> tuple[list[int], list[Any], int]:
    if body.get("prompt_logprobs") is None:
        raise _Closed("the endpoint gives no prompt log-probabilities")
    ids, logprobs = _prompt_ids(body), list(body["prompt_logprobs"])
    if len(ids) != len(logprobs):
        raise ValueError(f"{len(logprobs)} log-probabilities of {len(ids)} tokens")
    # Read here, so that what is no number is asked for again.
    for place, token in enumerate(ids[1:], start=1):
        _of_token(logprobs[place], token)
    return ids, logprobs, len(ids)


def _of_token(entry: Any, token: int) -> float:
    return _number(entry[str(token)]["logprob"])


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a log-probability is {number}")
    return number


def _echoed(body: Any, pairs: Sequence[Pair]) -> list[Score]:
    choices = sorted(body["choices"], key=lambda choice: int(choice["index"]))
    if len(choices) != len(pairs):
        raise ValueError(f"{len(choices)} choices for {len(pairs)} prompts")
    found = []
    for choice, pair in zip(choices, pairs, strict=True):
        # Most servers take echo and logprobs without a word and leave both out.
        if choice.get("logprobs") is None:
            raise _Closed("the endpoint leaves log-probabilities out")
        logprobs = choice["logprobs"]["token_logprobs"]
        start, size = len(pair.question_ids), len(pair.question_ids) + len(pair.answer_ids)
        if len(logprobs) not in (size, size + 1):
            raise ValueError(f"{len(logprobs)} log-probabilities of {size} ids")
        own = [
            _number(value)
            for value, counts in zip(logprobs[start:size], pair.counted, strict=True)
            if counts
        ]
        found.append(Score(math.fsum(own), len(own), size))
    return found


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids both begin with."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
