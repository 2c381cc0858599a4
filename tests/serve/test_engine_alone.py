"""`gradus engine start` with the real vLLM: it answers alone, and lets a stream end at SIGTERM."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_family import Family

from serve.child import free_port
from serve.engine_install import find_home

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[2]
TOKENS = 100


def healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_it_answers_by_every_name_and_a_stream_outlives_sigterm(family: Family) -> None:
    if find_home() is None:
        pytest.skip("vLLM is not installed; run `gradus engine install` first")
    port = free_port()
    words = ["engine", "start", str(family.bundle), "--port", str(port), "--drain-seconds", "20"]
    engine = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 240
        while not healthy(port):
            assert engine.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/v1/models")
        listed = json.loads(connection.getresponse().read())["data"]
        assert [model["id"] for model in listed] == family.names
        body = {"model": "demo-l2", "prompt": "My card", "max_tokens": TOKENS, "stream": True,
                "ignore_eos": True}  # fmt: skip
        connection.request(
            "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        assert answer.readline().startswith(b"data: ")
        engine.send_signal(signal.SIGTERM)
        lines = [line for line in answer.read().splitlines() if line.startswith(b"data: ")]
        connection.close()
        assert lines[-1] == b"data: [DONE]"
        assert sum(line != b"data: [DONE]" for line in lines) >= TOKENS // 2
        assert engine.wait(60) == 0
    finally:
        if engine.poll() is None:
            os.killpg(engine.pid, signal.SIGKILL)
            engine.wait()
