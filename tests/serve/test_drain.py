"""`serve` before engines that run elsewhere, in a process of its own: its end, and theirs."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from typing import Any

import pytest
import requests
from served import Served, served
from stub_engine import Stub
from stub_gateway import serving_stub


def test_sigterm_turns_readyz_at_once_and_lets_running_streams_finish(family: Any) -> None:
    with served(family, 20, Stub(tokens=150, chunk_s=0.02)) as gateway:
        streams = [gateway.chat() for _ in range(4)]
        bodies: list[bytes] = []
        readers = [threading.Thread(target=lambda s=s: bodies.append(s.content)) for s in streams]
        for reader in readers:
            reader.start()
        assert gateway.ready() == 200
        gateway.process.send_signal(signal.SIGTERM)
        ends = time.monotonic() + 1
        while gateway.ready() == 200 and time.monotonic() < ends:
            time.sleep(0.01)
        assert gateway.ready() == 503
        late = gateway.chat(stream=False)
        assert late.status_code == 503
        assert late.headers["retry-after"] == "1"
        for reader in readers:
            reader.join(20)
        assert gateway.end() == 0
    assert len(bodies) == 4
    for body in bodies:
        assert body.count(b"data: ") == 151
        assert body.endswith(b"data: [DONE]\n\n")


def test_a_stream_beyond_the_drain_ends_in_an_error_and_never_cleanly(family: Any) -> None:
    with served(family, 0.5, Stub(tokens=10_000, chunk_s=0.05)) as gateway:
        stream = gateway.chat()
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        seen = b""
        with contextlib.suppress(requests.exceptions.ChunkedEncodingError):
            for chunk in stream.iter_content(None):
                seen += chunk
        assert gateway.end() == 0
        assert time.monotonic() - began < 8
    last = [event for event in seen.split(b"\n\n") if event][-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["message"] == "The server is stopping"
    assert b"[DONE]" not in seen


def test_a_second_signal_ends_the_drain(family: Any) -> None:
    with served(family, 60, Stub(tokens=10_000, chunk_s=0.05)) as gateway:
        stream = gateway.chat()
        gateway.process.send_signal(signal.SIGTERM)
        while gateway.ready() == 200:
            time.sleep(0.01)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.end() == 0
        assert time.monotonic() - began < 8
        stream.close()


def test_a_replica_that_is_lost_under_load_fails_no_request_that_had_not_begun(
    family: Any,
) -> None:
    stubs = [Stub(tokens=4, chunk_s=0.005) for _ in range(2)]
    with contextlib.ExitStack() as first:
        lost = first.enter_context(serving_stub(stubs[0]))
        with serving_stub(stubs[1]) as kept:
            gateway = Served(family.bundle, 1, [lost, kept])
            statuses: list[int] = []

            def ask() -> None:
                for _ in range(40):
                    statuses.append(gateway.chat(stream=False).status_code)

            askers = [threading.Thread(target=ask) for _ in range(4)]
            for asker in askers:
                asker.start()
            time.sleep(0.1)
            first.close()
            for asker in askers:
                asker.join(60)
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.end() == 0
            assert gateway.process.stdout is not None
            gateway.process.stdout.close()
    assert statuses == [200] * 160
    assert stubs[0].seen
    assert stubs[1].seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_gateway_ends_at_once(family: Any, number: signal.Signals) -> None:
    with served(family, 30, Stub()) as gateway:
        began = time.monotonic()
        gateway.process.send_signal(number)
        assert gateway.end() == 0
        assert time.monotonic() - began < 5
    assert gateway.lines[-1] == "stopped\n"


def test_requests_that_are_none_write_no_log_that_could_stop_the_gateway(family: Any) -> None:
    """Nobody reads this process's output: a line for each would fill the pipe after 1,584."""
    with served(family, 1, Stub()) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        for _ in range(2_500):
            with socket.create_connection((host, int(port)), timeout=5) as client:
                client.sendall(b"\x00 / HTTP/1.1\r\n\r\n")
                assert client.recv(64).startswith(b"HTTP/1.1 400 ")
        assert gateway.chat(stream=False).status_code == 200
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.end() == 0
    assert gateway.lines[-1] == "stopped\n"
