"""What a running vLLM is asked by the parity gate, as the gateway would ask it."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import EngineError
from serve.attached import engine_headers
from serve.bundle import Bundle
from serve.golden_file import Conversation

AT_ONCE = 16
"""Requests under way: enough that base and adapters share batches."""
_EXCERPT = 300
# Greedy, and nothing of any sampling defaults, were the engine elsewhere started with some: a
# penalty would move it.
_GREEDY = {
    "temperature": 0, "top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1.0,
    "presence_penalty": 0, "frequency_penalty": 0, "return_token_ids": True,
}  # fmt: skip


@dataclass(frozen=True)
class Continued:
    """A greedy continuation.

    Attributes:
        ids: of its tokens.
        logprobs: of each, in nats.
        stopped: something ended it before its limit.
    """

    ids: list[int]
    logprobs: list[float]
    stopped: bool


class AskedEngine:
    """One engine, asked until a deadline.

    Args:
        bundle: the settings that the gateway would send along.
        url: without a path.
        deadline: of ``time.monotonic``.
    """

    def __init__(self, bundle: Bundle, url: str, deadline: float) -> None:
        self._bundle, self._url, self._deadline = bundle, url.rstrip("/"), deadline
        # A proxy from the environment must not see this traffic.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ids(self, conversation: Conversation, model: str) -> tuple[list[int], list[str]]:
        """The prompt's ids and tokens as the engine makes them of what a client sends.

        Raises:
            EngineError: it does not answer, or not in vLLM's shape.
        """
        body: dict[str, Any] = {"model": model, "return_token_strs": True}
        if conversation.messages is None:
            body["prompt"] = self._bundle.controls.neutralise(conversation.text or "")
        else:
            body["messages"] = self._bundle.controls.messages(self._opened(conversation))
            body["add_generation_prompt"] = True
            if self._bundle.chat_template_kwargs:
                body["chat_template_kwargs"] = dict(self._bundle.chat_template_kwargs)
        answer = self._post("/tokenize", body)
        try:
            ids = [int(token) for token in answer["tokens"]]
            return ids, [str(string) for string in answer.get("token_strs") or ()]
        except (KeyError, TypeError, ValueError) as error:
            raise self._strange("/tokenize", error) from None

    def logprobs(self, conversation: Conversation, model: str) -> list[float]:
        """Of the target's tokens after the prompt, in nats.

        With adapters loaded nothing else may be under way: in one batch with other requests the
        log-probabilities of a prompt end vLLM's engine (vllm #16668; 0.32 on a CPU).

        Raises:
            EngineError: as ``ids``.
        """
        whole = [*conversation.ids, *conversation.target]
        try:
            body = {"prompt": whole, "max_tokens": 1, "prompt_logprobs": 0}
            entries = self._complete(model, body)["prompt_logprobs"]
            if len(entries) != len(whole):
                raise ValueError(f"{len(entries)} log-probabilities of {len(whole)} tokens")
            return [
                float(entries[place][str(whole[place])]["logprob"])
                for place in range(len(conversation.ids), len(whole))
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise self._strange("/v1/completions", error) from None

    def greedy(self, conversation: Conversation, model: str) -> Continued:
        """The likeliest continuation of the prompt, as long as the longest that is golden.

        Raises:
            EngineError: as ``ids``.
        """
        steps = max(1, *(len(said.greedy) for said in conversation.models.values()))
        try:
            body = {"prompt": conversation.ids, "max_tokens": steps, "logprobs": 0}
            made = self._complete(model, body)
            ids = [int(token) for token in made["token_ids"]]
            logprobs = [float(value) for value in made["logprobs"]["token_logprobs"]]
            return Continued(ids, logprobs, made["finish_reason"] == "stop")
        except (KeyError, TypeError, ValueError) as error:
            raise self._strange("/v1/completions", error) from None

    def stops_at(self, ids: Sequence[int], token: int, model: str) -> bool:
        """Whether an answer that begins with ``token`` has ended with it.

        Raises:
            EngineError: as ``ids``.
        """
        body = {"prompt": list(ids), "max_tokens": 2, "allowed_token_ids": [token]}
        try:
            return bool(self._complete(model, body)["finish_reason"] == "stop")
        except (KeyError, TypeError) as error:
            raise self._strange("/v1/completions", error) from None

    def _opened(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The messages with the bundle's system text where they have none, as the gateway does."""
        messages = list(conversation.messages or ())
        roles = {message["role"] for message in messages}
        if self._bundle.system is None or roles & {"system", "developer"}:
            return messages
        return [{"role": "system", "content": self._bundle.system}, *messages]

    def _complete(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        stops = list(self._bundle.stop_token_ids)
        whole = {**_GREEDY, "model": model, **body, **({"stop_token_ids": stops} if stops else {})}
        choice: dict[str, Any] = self._post("/v1/completions", whole)["choices"][0]
        return choice

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise EngineError("parity: the engine took too long to answer; give it more time")
        headers = {"Content-Type": "application/json", **engine_headers()}
        request = urllib.request.Request(  # noqa: S310, an address that gradus made or was given
            self._url + path, json.dumps(body).encode(), headers
        )
        try:
            with self._opener.open(request, timeout=left_s) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            told = error.read()[:_EXCERPT].decode("utf-8", "replace")
            raise EngineError(
                f"parity: {path} of {body['model']} was answered with {error.code}: {told}; "
                "golden conversations need a vLLM that was started for this bundle"
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EngineError(
                f"parity: {self._url}{path}: no answer ({error}); look at the engine's log"
            ) from None

    def _strange(self, path: str, error: Exception) -> EngineError:
        return EngineError(
            f"parity: {self._url}{path}: not vLLM's answer ({type(error).__name__}: {error}); "
            "golden conversations need a vLLM of the version that gradus installs"
        )
