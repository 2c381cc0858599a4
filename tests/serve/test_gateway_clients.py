"""Clients that go, and clients that do not take what they asked for: neither holds anything."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import re
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from stub_engine import Stub
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from serve.gateway.door import DoorLimits
from serve.keys import Key, OneKey
from serve.limits import Limiter
from serve.metrics import Metrics
from serve.usage import UsageStore

CHAT = {"model": "demo-l2", "messages": [{"role": "user", "content": "Hello there"}]}


@contextlib.contextmanager
def asked(running: Any, *, small: bool = False, **more: Any) -> Iterator[socket.socket]:
    """A client that has asked and reads nothing by itself."""
    body = json.dumps({**CHAT, **more}).encode()
    client = socket.socket()
    if small:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", running.port))
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer secret\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    with client:
        yield client


def soon(holds: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it holds within a while."""
    ends = time.monotonic() + seconds
    while not holds() and time.monotonic() < ends:
        time.sleep(0.02)
    return holds()


def nothing_held(running: Any) -> bool:
    (group,) = running.door.directory.groups()
    return (
        running.stub.open == 0
        and running.door.in_flight == 0
        and all(member.in_flight == 0 for member in group.members)
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("waits", ["delay_s", "first_s"])
def test_a_client_that_goes_before_the_first_byte_ends_the_engines_work(
    gateway: Any, stream: bool, waits: str
) -> None:
    running = gateway(Stub(tokens=10_000, chunk_s=0.02, delay_s=0.0))
    setattr(running.stub, waits if stream else "delay_s", 30.0)
    with asked(running, stream=stream):
        assert soon(lambda: running.stub.open == 1)
    assert soon(lambda: nothing_held(running))
    assert running.stub.cancelled == 1


def test_a_client_that_goes_gives_its_keys_place_back(gateway: Any) -> None:
    class Ring:
        def find(self, token: bytes) -> Key | None:
            return Key(id="k1", name="one", sha256="0" * 64, concurrency=1)

    running = gateway(Stub(delay_s=30), keys=Ring(), limiter=Limiter())
    with asked(running):
        assert soon(lambda: running.stub.open == 1)
        second = requests.post(
            f"{running.url}/v1/chat/completions",
            json=CHAT, headers={"Authorization": "Bearer secret"}, timeout=5,
        )  # fmt: skip
        assert second.status_code == 429
    assert soon(lambda: nothing_held(running))
    running.stub.delay_s = 0.0
    third = requests.post(
        f"{running.url}/v1/chat/completions",
        json=CHAT, headers={"Authorization": "Bearer secret"}, timeout=5,
    )  # fmt: skip
    assert third.status_code == 200


def test_what_a_client_had_before_it_went_is_in_its_usage(gateway: Any, tmp_path: Path) -> None:
    store = UsageStore(f"sqlite:///{tmp_path / 'usage.db'}")
    store.start()
    running = gateway(Stub(tokens=10_000, chunk_s=0.01), keys=OneKey("secret"), usage=store)
    with asked(running, stream=True) as client:
        seen = b""
        while seen.count(b"data: ") < 20:
            seen += client.recv(4096)
    assert soon(lambda: nothing_held(running))
    store.close()
    with sqlite3.connect(tmp_path / "usage.db") as told:
        ((status, prompt, answer),) = told.execute(
            "select status, prompt_tokens, completion_tokens from used"
        ).fetchall()
    assert status == 499
    assert prompt > 0
    assert answer >= 20


def test_a_request_of_a_client_that_stays_is_counted_exactly(gateway: Any, tmp_path: Path) -> None:
    store = UsageStore(f"sqlite:///{tmp_path / 'usage.db'}")
    store.start()
    running = gateway(Stub(tokens=33), usage=store)
    for stream in (False, True):
        told = requests.post(
            f"{running.url}/v1/chat/completions", json={**CHAT, "stream": stream}, timeout=10
        )
        assert told.status_code == 200
    assert soon(lambda: nothing_held(running))
    store.close()
    with sqlite3.connect(tmp_path / "usage.db") as rows:
        found = rows.execute("select status, completion_tokens, stream from used order by stream")
        assert found.fetchall() == [(200, 33, 0), (200, 33, 1)]


@pytest.mark.parametrize(
    "limits", [DoorLimits(total_s=1.0), DoorLimits(stalled_s=1.0)], ids=["total", "stalled"]
)
def test_a_reader_that_takes_nothing_loses_its_place(gateway: Any, limits: DoorLimits) -> None:
    running = gateway(Stub(tokens=1_000_000), limits=limits)
    with asked(running, small=True, stream=True):
        assert soon(lambda: running.stub.open == 1)
        assert soon(lambda: nothing_held(running), 10)


def test_a_reader_that_is_slow_but_reads_is_served_to_its_end(gateway: Any) -> None:
    running = gateway(Stub(tokens=4_000), limits=DoorLimits(stalled_s=0.5))
    with asked(running, small=True, stream=True) as client:
        client.settimeout(20)
        seen = b""
        while not seen.endswith(b"0\r\n\r\n"):
            seen += client.recv(16_384)
            time.sleep(0.01)
    assert seen.count(b"data: ") == 4_001
    assert b"[DONE]" in seen


def test_a_stream_beyond_its_time_ends_in_an_error_and_not_cleanly(gateway: Any) -> None:
    running = gateway(Stub(tokens=10_000, chunk_s=0.05), limits=DoorLimits(total_s=0.6))
    told = requests.post(
        f"{running.url}/v1/chat/completions", json={**CHAT, "stream": True}, timeout=10
    )
    last = [event for event in told.content.split(b"\n\n") if event][-1]
    assert "longer than" in json.loads(last.removeprefix(b"data: "))["error"]["message"]
    assert soon(lambda: nothing_held(running))


def test_a_stream_whose_first_byte_is_late_is_504(gateway: Any) -> None:
    """vLLM sends a stream's head before it computes anything: the head is no first byte."""
    running = gateway(Stub(first_s=30), limits=DoorLimits(first_byte_s=0.4))
    told = requests.post(
        f"{running.url}/v1/chat/completions", json={**CHAT, "stream": True}, timeout=10
    )
    assert told.status_code == 504
    assert told.json()["error"]["code"] == "timeout"
    assert soon(lambda: nothing_held(running))


def test_every_answer_has_a_request_id(gateway: Any) -> None:
    running = gateway()
    for method, path in (
        ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/models"), ("GET", "/openapi.json"),
        ("GET", "/nope"), ("GET", "//nope"), ("DELETE", "/v1/models"), ("GET", "/v1/models/nope"),
        ("POST", "/v1/chat/completions"),
    ):  # fmt: skip
        told = requests.request(method, running.url + path, timeout=5)
        assert len(told.headers["x-request-id"]) == 32, path
        own = requests.request(
            method, running.url + path, headers={"x-request-id": "mine-1"}, timeout=5
        )
        assert own.headers["x-request-id"] == "mine-1", path


def test_who_has_a_streams_end_may_ask_again_at_once(gateway: Any) -> None:
    running = gateway(Stub(tokens=2), limits=DoorLimits(in_flight=1))
    with requests.Session() as session:
        for _ in range(100):
            told = session.post(
                f"{running.url}/v1/chat/completions", json={**CHAT, "stream": True}, timeout=10
            )
            assert told.status_code == 200
            assert told.content.endswith(b"data: [DONE]\n\n")


def test_a_client_that_goes_with_another_request_waiting_is_no_defect(gateway: Any) -> None:
    """The server knows only the newest of its requests to be without a reader."""
    running = gateway(Stub(delay_s=5))
    body = b'{"model":"demo-l2","messages":[{"role":"user","content":"x"}]}'
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger, before = logging.getLogger("uvicorn.error"), logging.getLogger("uvicorn.error").level
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    try:
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall((head + body) * 2)
            while running.stub.open == 0:
                time.sleep(0.01)
        ends = time.monotonic() + 5
        while running.door.in_flight and time.monotonic() < ends:
            time.sleep(0.02)
        assert running.door.in_flight == 0
        time.sleep(0.2)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    assert said == []


def test_an_answer_in_one_piece_is_the_one_that_uvicorn_would_write(gateway: Any) -> None:
    """Where the connection ends with it, uvicorn's own two messages are what is sent."""
    running = gateway(metrics=Metrics(), keys=OneKey("t"), limiter=Limiter())
    told = []
    with requests.Session() as session:
        for more in ({}, {}, {"Connection": "close"}):
            answer = session.post(
                f"{running.url}/v1/chat/completions", json=CHAT, timeout=10,
                headers={"Authorization": "Bearer t", "x-request-id": "mine", **more},
            )  # fmt: skip
            headers = {name.lower(): value for name, value in answer.headers.items()}
            assert headers.pop("date")
            assert headers.pop("connection", None) == ("close" if more else None)
            told.append((answer.status_code, answer.reason, headers, answer.json()["choices"]))
    assert told[0] == told[1] == told[2]
    assert told[0][2].keys() >= {"content-type", "content-length", "x-model-version"}


def test_pipelined_requests_are_answered_in_their_order(gateway: Any) -> None:
    running = gateway(Stub(delay_s=0.05))
    body = b'{"model":"demo-l2","messages":[{"role":"user","content":"x"}]}'
    asked = b"".join(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nx-request-id: r%d\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (n, len(body), body)
        for n in range(4)
    )
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        client.sendall(asked)
        got = b""
        while got.count(b'"chat.completion"') < 4 and (part := client.recv(65_536)):
            got += part
    assert re.findall(rb"x-request-id: (r\d)\r\n", got) == [b"r0", b"r1", b"r2", b"r3"]


def requests_alive() -> int:
    # Not isinstance: some objects of others import half a library when they are asked.
    return sum(type(one) is RequestResponseCycle for one in gc.get_objects())


def test_no_request_outlives_its_whole_answer(gateway: Any) -> None:
    """What only the collector could free would be a load on every other request."""
    running = gateway()
    url, sent = f"{running.url}/v1/chat/completions", {**CHAT, "stream": False}
    with requests.Session() as session:
        session.post(url, json=sent, timeout=10)
        gc.collect()
        before = requests_alive()
        gc.disable()
        try:
            for more in ({}, {"nonsense": 1}) * 20:
                session.post(url, json={**sent, **more}, timeout=10)
                # On a connection of its own.
                requests.post(url, json={**sent, **more}, timeout=10)
            alive = requests_alive() - before
        finally:
            gc.enable()
    # The newest of a connection that stands is its own to keep.
    assert alive <= 3
