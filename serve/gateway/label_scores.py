"""POST /v1/classify of a model that writes its label: how likely it holds each of them.

The engine renders the prompt and gives its ids; then it is asked what may come next after every
beginning of a label, so that the probability of each label is a product of those. Nothing is
asked of the prompt's own tokens: beside other requests that would end a vLLM with adapters
(vllm #16668).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serve.bundle import BundleLabels
from serve.gateway.classify import Ask, Reading, conversation_body, engine_words
from serve.gateway.errors import ApiError
from serve.gateway.reading import to_bytes
from serve.heads import Answer, answer_of

_MAX_TOKENS = 128
"""Tokens whose log-probabilities one request may ask for, as vLLM bounds it."""
_MAX_PROMPTS = 32
_Ids = tuple[int, ...]


@dataclass(frozen=True)
class _Request:
    """Beginnings of labels, and the tokens that may follow them."""

    beginnings: tuple[_Ids, ...]
    tokens: tuple[int, ...]


class LabelScores:
    """The labels of one model, ready to be asked for."""

    def __init__(self, labels: BundleLabels) -> None:
        self._told = labels
        self.labels = tuple(labels.answers)
        followers: dict[_Ids, dict[int, None]] = {}
        for ids in labels.answers.values():
            for place, token in enumerate(ids):
                followers.setdefault(ids[:place], {})[token] = None
        self._beginnings = len(followers)
        self._requests = tuple(_packed({b: tuple(f) for b, f in followers.items()}))

    async def answer(
        self, reading: Reading, conversation: list[dict[str, Any]], ask: Ask
    ) -> tuple[Answer, int]:
        """The calibrated answer to one conversation, and the tokens that were read for it.

        Raises:
            ApiError: what the engine refuses; 502 for an engine that gives no numbers.
        """
        body = {**conversation_body(reading, conversation), "model": reading.served}
        status, data = await ask("/tokenize", to_bytes(body))
        tree = engine_words(status, data)
        try:
            prompt = [int(token) for token in tree["tokens"]]
            found: dict[tuple[_Ids, int], float] = {}
            for request in self._requests:
                sent = to_bytes(self._body(reading.served, prompt, request))
                tree = engine_words(*await ask("/v1/completions", sent))
                for choice in tree["choices"]:
                    beginning = request.beginnings[int(choice["index"])]
                    (after,) = choice["logprobs"]["top_logprobs"]
                    for token in request.tokens:
                        found[beginning, token] = float(after[f"token_id:{token}"])
            sums = [
                sum(found[ids[:place], token] for place, token in enumerate(ids))
                for ids in self._told.answers.values()
            ]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise _no_numbers() from None
        scaled = np.asarray(sums, dtype=np.float64) / self._told.temperature
        if not np.isfinite(scaled).all():
            raise _no_numbers()
        read = len(prompt) + len(self._told.opening) + self._beginnings
        return answer_of(self.labels, scaled, self._told.threshold), read

    def _body(self, model: str, prompt: Sequence[int], request: _Request) -> dict[str, Any]:
        before = [*prompt, *self._told.opening]
        return {
            "model": model,
            "prompt": [[*before, *beginning] for beginning in request.beginnings],
            "max_tokens": 1,
            "temperature": 0,
            # Labels may hold tokens of one text: by their ids they are told apart.
            "logprobs": 0,
            "logprob_token_ids": list(request.tokens),
            "return_tokens_as_token_ids": True,
        }


def _packed(followers: Mapping[_Ids, tuple[int, ...]]) -> Iterator[_Request]:
    """Few requests of all, each within the engine's bounds."""
    beginnings: list[_Ids] = []
    tokens: dict[int, None] = {}
    for beginning, after in followers.items():
        for start in range(0, len(after), _MAX_TOKENS):
            some = dict.fromkeys(after[start : start + _MAX_TOKENS])
            full = len(beginnings) == _MAX_PROMPTS or len({*tokens, *some}) > _MAX_TOKENS
            if beginnings and full:
                yield _Request(tuple(beginnings), tuple(tokens))
                beginnings, tokens = [], {}
            beginnings.append(beginning)
            tokens |= some
    yield _Request(tuple(beginnings), tuple(tokens))


def _no_numbers() -> ApiError:
    return ApiError(502, "The engine's answer holds no log-probabilities", code="engine_error")
