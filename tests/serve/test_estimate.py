"""What a call is charged before its tokens are counted: nothing of a prompt is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import requests
from stub_engine import Stub

from pipeline.core.controls import Controls
from serve.gateway.classify import Reading
from serve.gateway.defaults import Defaults
from serve.gateway.directory import Rendering, Table
from serve.gateway.estimate import estimated_prompt
from serve.keys import Key
from serve.limits import Limiter

TPM = 100_000
LONG = "x" * 40_000
MESSAGE = {"role": "user", "content": "a"}


class Ring:
    """One key, whatever is given."""

    def find(self, token: bytes) -> Key | None:
        return Key(id="k", name="k", sha256="0" * 64, tpm=TPM)


@pytest.fixture
def running(gateway: Any) -> Any:
    # Of an answer that fails nothing is known: the estimate stands.
    return gateway(Stub(fail=500), keys=Ring(), limiter=Limiter())


def charged(running: Any, path: str, body: dict[str, Any]) -> int:
    answer = requests.post(
        f"{running.url}{path}", json={"model": "demo-l2", **body}, timeout=5,
        headers={"Authorization": "Bearer t"},
    )  # fmt: skip
    return TPM - int(answer.headers["x-ratelimit-remaining-tokens"])


@pytest.mark.parametrize(
    ("path", "more", "tokens"),
    [
        ("/v1/completions", {"prompt": ["x" * 40] * 3, "max_tokens": 50, "n": 2}, 30 + 300),
        ("/v1/completions", {"prompt": [[5] * 7] * 4, "max_tokens": 10}, 28 + 40),
        ("/v1/completions", {"prompt": [5] * 7, "max_tokens": 10}, 7 + 10),
        # Three bytes each in UTF-8.
        ("/v1/completions", {"prompt": "\u4f60" * 400, "max_tokens": 1}, 300 + 1),
        ("/v1/embeddings", {"input": ["x" * 40] * 2}, 20),
    ],
)
def test_what_a_request_may_cost_counts_all_its_prompts(
    running: Any, path: str, more: dict[str, Any], tokens: int
) -> None:
    assert charged(running, path, more) == tokens


@pytest.mark.parametrize(("own", "tokens"), [({"max_tokens": 40}, 40), ({}, 256)])
def test_an_answer_that_its_client_does_not_bound_may_cost_what_the_bundle_lets_it(
    running: Any, own: dict[str, Any], tokens: int
) -> None:
    route = running.door.directory.find("demo-l2", "")
    rendering = Rendering(defaults=Defaults(own))
    running.door.directory = Table([replace(route, rendering=rendering)])
    assert charged(running, "/v1/completions", {"prompt": "x" * 40}) == 10 + tokens


@pytest.mark.parametrize(
    "hidden",
    [
        LONG,
        {LONG: 1},
        [1, LONG],
        [True, LONG],
        [[1, LONG]],
        [0.5] * 10_000,
        [{"a": [LONG]}],
        [10**31] * 1_300,
    ],
)
def test_no_prompt_is_hidden_from_the_estimate(running: Any, hidden: Any) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": hidden}}
    messages = [MESSAGE, {"role": "assistant", "content": None, "tool_calls": [call]}]
    body = {"messages": messages, "max_tokens": 1}
    assert charged(running, "/v1/chat/completions", body) >= 10_000


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/responses", {"input": "a", "instructions": LONG}),
        ("/v1/responses", {"input": [{"role": "user", "content": [
            {"type": "input_text", "text": LONG}]}]}),
        ("/v1/chat/completions", {"messages": [MESSAGE], "tools": [
            {"type": "function", "function": {"name": "f", "description": LONG}}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
            {"type": "text", "text": LONG}]}]}),
    ],
)  # fmt: skip
def test_whatever_an_engine_reads_is_in_the_estimate(
    running: Any, path: str, more: dict[str, Any]
) -> None:
    assert 10_000 <= charged(running, path, more) < 10_400


@pytest.mark.parametrize(
    ("path", "body", "times"),
    [
        ("/v1/chat/completions", {"messages": [MESSAGE]}, 1),
        ("/v1/classify", {"input": "a"}, 1),
        ("/v1/classify", {"input": ["a"] * 7}, 7),
        ("/v1/classify", {"messages": [MESSAGE] * 7}, 1),
        ("/v1/classify", {"messages": [[MESSAGE]] * 7}, 7),
        # What is sent there is all that is read.
        ("/v1/completions", {"prompt": ["a"] * 7}, 0),
        ("/v1/responses", {"input": [MESSAGE] * 7}, 0),
    ],
)
def test_a_bundles_own_text_counts_wherever_it_is_put_before_a_prompt(
    running: Any, path: str, body: dict[str, Any], times: int
) -> None:
    plain = running.door.directory.find("demo-l2", "")
    own = replace(
        plain, rendering=Rendering(LONG), reading=Reading("x", True, LONG, Controls(), {})
    )
    more = estimated_prompt(path, body, own) - estimated_prompt(path, body, plain)
    assert more == 10_000 * times
