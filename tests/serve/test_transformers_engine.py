"""`transformers serve` behind the gateway, through the official client."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import openai
import pytest

PROMPT = "My card was declined"
TOKENS = 12


def ask(client: openai.OpenAI, name: str, **extra: Any) -> Any:
    settings: dict[str, Any] = {"max_tokens": TOKENS, "temperature": 0, **extra}
    messages: Any = [{"role": "user", "content": PROMPT}]
    return client.chat.completions.create(model=name, messages=messages, **settings)


@pytest.mark.parametrize("name", ["demo-l0", "demo-l1", "demo-l2"])
def test_greedy_text_equals_offline_float32(
    transformers_server: Any, offline: Any, name: str
) -> None:
    answer = ask(transformers_server.client, name)
    expected = offline(name, PROMPT, TOKENS)
    assert answer.choices[0].message.content.strip() == expected.text.strip()
    assert answer.usage.completion_tokens == len(expected.ids)
    assert answer.model == name


def test_three_names_answer_differently(transformers_server: Any, family: Any) -> None:
    client = transformers_server.client
    texts = {ask(client, name).choices[0].message.content for name in family.names}
    assert len(texts) == 3


def test_stream_carries_public_names_and_ends_in_done(transformers_server: Any) -> None:
    import requests

    answer = requests.post(
        f"{transformers_server.url}/v1/chat/completions",
        json={
            "model": "demo-l1",
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": TOKENS,
            "temperature": 0,
            "stream": True,
        },
        timeout=60,
    )
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert {chunk["model"] for chunk in chunks} == {"demo-l1"}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    whole = ask(transformers_server.client, "demo-l1").choices[0].message.content
    assert text.strip() == whole.strip()


def test_temperature_is_honoured(transformers_server: Any) -> None:
    client = transformers_server.client
    drawn = {
        ask(client, "demo-l0", temperature=1.9, seed=seed).choices[0].message.content
        for seed in range(4)
    }
    assert len(drawn) > 1, "sampling at 1.9 gave one text four times: it stayed greedy"


def test_stop_token_ids_of_the_bundle_and_the_token_limit_hold(transformers_server: Any) -> None:
    answer = ask(transformers_server.client, "demo-l0", max_tokens=10_000)
    assert answer.usage.completion_tokens <= 128


@pytest.mark.parametrize(
    ("name", "value"), [("logprobs", True), ("n", 2), ("frequency_penalty", 0.5)]
)
def test_what_the_engine_would_ignore_is_refused(
    transformers_server: Any, name: str, value: Any
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(transformers_server.client, "demo-l0", **{name: value})
    assert caught.value.param == name


def test_the_printed_curl_line_works(transformers_server: Any) -> None:
    line = transformers_server.line("curl ", 1)
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["model"] == "demo-l2"


def test_zz_ctrl_c_ends_all_with_exit_code_0(
    transformers_server: Any, descendants: Any, await_gone: Any
) -> None:
    """Last in this file: it ends the session's server."""
    folder = transformers_server.folder()
    processes = descendants(transformers_server.process.pid)
    assert len(processes) >= 2, "launcher and server were expected"
    transformers_server.process.send_signal(signal.SIGINT)
    assert transformers_server.process.wait(20) == 0
    await_gone(processes, 1)
    assert not folder.exists()
    assert "stopped" in transformers_server.lines
