"""What passes: an engine's answers, byte for byte, under the public name."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import openai
import pytest
import requests
from stub_engine import WORDS, Stub

ASKED = [{"role": "user", "content": "Hello there"}]


def test_a_whole_answer_is_the_engines(gateway: Any) -> None:
    running = gateway()
    answer = running.client().chat.completions.create(model="demo-l2", messages=ASKED)
    assert answer.model == "demo-l2"
    assert answer.choices[0].message.content == " ".join(WORDS)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    direct = {"model": "demo-l2", "messages": ASKED}
    assert running.stub.seen[-1] == ("/v1/chat/completions", direct)


def test_completions_echo_and_ids_pass(gateway: Any) -> None:
    running = gateway()
    made = running.client().completions.create(
        model="demo-l1", prompt=[[1, 2, 3], [4]], echo=True, logprobs=1, max_tokens=0
    )
    assert made.model == "demo-l1"
    _, body = running.stub.seen[-1]
    assert body == {
        "model": "demo-l1", "prompt": [[1, 2, 3], [4]], "echo": True, "logprobs": 1,
        "max_tokens": 0,
    }  # fmt: skip


@pytest.mark.parametrize("public", ["demo-l2", "intents"])
@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_is_whole_and_shows_usage_only_where_it_was_asked_for(
    gateway: Any, public: str, usage: bool
) -> None:
    running = gateway(Stub(tokens=20), {public: "demo-l2"})
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(
        running.client().chat.completions.create(
            model=public, messages=ASKED, stream=True, **options
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.split() == [WORDS[i % 8] for i in range(20)]
    assert {chunk.model for chunk in chunks} == {public}
    assert [c.usage.completion_tokens for c in chunks if c.usage] == ([20] if usage else [])
    assert len([c for c in chunks if not c.choices]) == (1 if usage else 0)
    # The engine was asked for it either way.
    assert running.stub.seen[-1][1]["stream_options"]["include_usage"] is True


def test_a_streams_bytes_are_those_of_the_engine(gateway: Any) -> None:
    running = gateway(Stub(tokens=30))
    body = {"model": "demo-l2", "messages": ASKED, "stream": True}
    raw = requests.post(f"{running.url}/v1/chat/completions", json=body, timeout=20)
    assert raw.headers["content-type"].startswith("text/event-stream")
    events = raw.content.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    first = json.loads(events[0].removeprefix(b"data: "))
    assert events[0] == b"data: " + json.dumps(first, separators=(",", ":")).encode()


def test_text_that_looks_like_a_models_name_stays(gateway: Any) -> None:
    running = gateway(public={"intents": "demo-l2"})
    said = 'say "model":"demo-l2" and {"usage":{'
    running.client().chat.completions.create(
        model="intents", messages=[{"role": "user", "content": said}]
    )
    assert running.stub.seen[-1][1]["messages"][0]["content"] == said


def test_a_stream_whose_engine_dies_ends_in_an_error_and_never_cleanly(gateway: Any) -> None:
    running = gateway(Stub(tokens=50, die_after=5, chunk_s=0.01))
    stream = running.client().chat.completions.create(model="demo-l2", messages=ASKED, stream=True)
    seen = []
    with pytest.raises(openai.APIError, match="went away"):
        seen.extend(stream)
    assert len(seen) == 5
    body = {"model": "demo-l2", "messages": ASKED, "stream": True}
    raw = requests.post(f"{running.url}/v1/chat/completions", json=body, timeout=20).content
    assert b"[DONE]" not in raw
    assert running.door.in_flight == 0


def test_an_engines_own_error_is_the_streams_end(gateway: Any) -> None:
    running = gateway(Stub(tokens=50, fails_after=4, chunk_s=0.01))
    body = {"model": "demo-l2", "messages": ASKED, "stream": True}
    raw = requests.post(f"{running.url}/v1/chat/completions", json=body, timeout=20).content
    events = [event for event in raw.split(b"\n\n") if event]
    assert json.loads(events[-1].removeprefix(b"data: "))["error"]["message"] == "the core fell"
    assert len(events) == 5


def test_a_client_that_goes_ends_the_engines_work(gateway: Any) -> None:
    running = gateway(Stub(tokens=10_000, chunk_s=0.02))
    stream = running.client().chat.completions.create(model="demo-l2", messages=ASKED, stream=True)
    next(iter(stream))
    assert running.stub.open == 1
    stream.close()
    for _ in range(100):
        if running.stub.open == 0 and running.door.in_flight == 0:
            break
        time.sleep(0.05)
    assert running.stub.open == 0
    assert running.door.in_flight == 0


def test_an_engines_refusal_is_told_in_its_words(gateway: Any) -> None:
    running = gateway(Stub(fail=400))
    with pytest.raises(openai.BadRequestError, match="as asked"):
        running.client().chat.completions.create(model="demo-l2", messages=ASKED)


def test_an_engine_that_is_away_is_503_at_once(gateway: Any) -> None:
    running = gateway()
    (group,) = running.door.directory.groups()
    group.members[0].alive = lambda: False
    with pytest.raises(openai.InternalServerError, match="away") as caught:
        running.client().chat.completions.create(model="demo-l2", messages=ASKED)
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"] == "2"
    assert requests.get(f"{running.url}/readyz", timeout=5).status_code == 503
    assert requests.get(f"{running.url}/healthz", timeout=5).status_code == 200


def test_more_than_the_door_holds_is_told_to_come_again(gateway: Any) -> None:
    from serve.gateway.door import DoorLimits

    running = gateway(Stub(tokens=400, chunk_s=0.02), limits=DoorLimits(in_flight=2))
    streams = [
        running.client().chat.completions.create(model="demo-l2", messages=ASKED, stream=True)
        for _ in range(2)
    ]
    with pytest.raises(openai.InternalServerError, match="under way") as caught:
        running.client().chat.completions.create(model="demo-l2", messages=ASKED)
    assert caught.value.status_code == 503
    for stream in streams:
        stream.close()


def test_an_engine_that_is_silent_is_504(gateway: Any) -> None:
    from serve.gateway.door import DoorLimits

    running = gateway(Stub(delay_s=5), limits=DoorLimits(first_byte_s=0.3))
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError) as caught:
        running.client().chat.completions.create(model="demo-l2", messages=ASKED)
    assert caught.value.status_code == 504
    assert time.monotonic() - began < 3


def test_a_slow_reader_holds_back_the_engine_and_not_memory(gateway: Any) -> None:
    import socket

    running = gateway(Stub(tokens=200_000))
    body = json.dumps({"model": "demo-l2", "messages": ASKED, "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        time.sleep(1.5)
        # 200,000 chunks are 30 MB: had they been taken in, the engine's stream would be over.
        assert running.stub.open == 1
    threading.Event().wait(0.1)


def test_models_are_listed_with_their_place_in_the_family(gateway: Any) -> None:
    found = gateway().client().models.list().data
    assert [model.id for model in found] == ["demo-l0", "demo-l1", "demo-l2"]
    assert found[2].metadata["level"] == "L2"


def test_log_probabilities_of_a_prompt_get_the_engine_for_themselves(gateway: Any) -> None:
    running = gateway(Stub(tokens=40, chunk_s=0.02), alone=True)
    client = running.client()
    stream = client.chat.completions.create(model="demo-l2", messages=ASKED, stream=True)
    next(stream)
    ended: list[float] = []

    def score() -> None:
        running.client().completions.create(
            model="demo-l1", prompt=[1, 2], echo=True, logprobs=0, max_tokens=1
        )
        ended.append(time.monotonic())

    thread = threading.Thread(target=score)
    thread.start()
    time.sleep(0.2)
    assert not any(path == "/v1/completions" for path, _ in running.stub.seen)
    # Others are not held up by one that waits.
    client.chat.completions.create(model="demo-l0", messages=ASKED)
    assert len(list(stream)) > 20
    streamed = time.monotonic()
    thread.join(10)
    assert ended[0] >= streamed - 0.1


@pytest.mark.parametrize(
    "more", [{"max_tokens": 17}, {}, {"max_tokens": 1, "n": 2}], ids=["many", "unbounded", "two"]
)
def test_long_answers_beside_log_probabilities_of_the_prompt_are_400(
    gateway: Any, more: dict[str, Any]
) -> None:
    running = gateway()
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        running.client().completions.create(
            model="demo-l1", prompt="x", echo=True, logprobs=1, **more
        )


def test_several_prompts_are_not_scored_at_once_beside_adapters(gateway: Any) -> None:
    asked: dict[str, Any] = {"model": "demo-l1", "echo": True, "logprobs": 1, "max_tokens": 1}
    client = gateway(alone=True).client()
    with pytest.raises(openai.BadRequestError, match="one at a time"):
        client.completions.create(prompt=[[1, 2], [3]], **asked)
    for prompt in ([1, 2], [[1, 2]], "text", ["text"]):
        client.completions.create(prompt=prompt, **asked)
    gateway().client().completions.create(prompt=[[1, 2], [3]], **asked)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_tells_which_version_gave_it(gateway: Any, stream: bool) -> None:
    """A name stands for one version now and for another tomorrow, or for two while one is tried."""
    running = gateway()
    body = {"model": "demo-l2", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    answer = requests.post(f"{running.url}/v1/chat/completions", json=body, timeout=10)
    assert answer.headers["x-model-version"] == "c0ffee11"
