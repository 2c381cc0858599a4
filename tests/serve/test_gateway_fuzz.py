"""Random requests, by the minute: never a 5xx, no growth, and good ones are served meanwhile.

The five minutes: ``pytest -m long -s tests/serve/test_gateway_fuzz.py``, which tells what it saw.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from served import Served, served
from stub_engine import Stub
from tiny_family import HEAD, make_headed

CHAT: dict[str, Any] = {
    "model": "demo-l2", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4,
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        **CHAT, "stream": True, "stop": ["a"], "n": 2, "logprobs": True, "top_logprobs": 2,
        "response_format": {"type": "json_object"}, "logit_bias": {"1": 1.0},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {
            "properties": {"a": {"pattern": "x"}}}}}],
    },
    "/v1/completions": {"model": "demo-l1", "prompt": [[1, 2], [3]], "max_tokens": 3},
    "/v1/responses": {"model": "demo-l0", "input": [{"role": "user", "content": "x"}]},
    "/v1/embeddings": {"model": "demo-l0", "input": ["a", "b"]},
    "/v1/classify": {"model": HEAD, "messages": [{"role": "user", "content": "My card"}]},
}  # fmt: skip
ODD: list[Any] = [
    None, True, -1, 0, 10**9, 10**30, 1e308, -0.0, "", "x" * 5000, "\u0000", "\ud800", "../x", [],
    {}, [[]], [None], {"a": {"a": {}}}, [[[[[[]]]]]], "\u202e", {"type": "image_url"}, [1] * 3000,
]  # fmt: skip
NAMES = ["cache_salt", "priority", "echo", "logprobs", "stream", "messages", "prompt", "model", "n",
         "pattern", "patternProperties", "$ref", "maxLength", "usage"]  # fmt: skip


def mutated(rng: random.Random, tree: Any) -> Any:
    """The same with some of its parts odd, gone or doubled."""
    if rng.random() < 0.12:
        return rng.choice(ODD)
    if isinstance(tree, dict):
        made = {k: mutated(rng, v) for k, v in tree.items() if rng.random() > 0.05}
        if rng.random() < 0.1:
            made[rng.choice(NAMES)] = rng.choice(ODD)
        return made
    if isinstance(tree, list):
        return [mutated(rng, item) for item in tree for _ in range(rng.choice([1, 1, 1, 0, 3]))]
    return tree


def torn(rng: random.Random, data: bytes) -> bytes:
    """The same bytes, some of them others."""
    made = bytearray(data)
    for _ in range(rng.choice([0, 0, 1, 3, 20])):
        if made:
            place = rng.randrange(len(made))
            made[place : place + rng.choice([0, 1, 5])] = rng.randbytes(rng.choice([0, 1, 3]))
    return bytes(made)


def status_of(gateway: Served, data: bytes) -> int | None:
    """What is answered to these very bytes; None where nothing is."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            found = client.recv(64)
        except ConnectionError:
            return None
    return int(found.split(b" ")[1]) if found.startswith(b"HTTP/1.1 ") else None


def memory_bytes(pid: int) -> int:
    """Resident set (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("seconds", [6, pytest.param(300, marks=pytest.mark.long)])
def test_random_requests_are_never_5xx_and_leave_nothing(
    family: Any, tmp_path: Path, seconds: float
) -> None:
    rng, seen, bad = random.Random(6), dict[int | None, int](), list[tuple[int, bytes]]()
    writes = Stub(tokens=4, keep_seen=False)
    pools = Stub(models=(HEAD,), states=128, keep_seen=False)
    headed = replace(family, bundle=make_headed(family, tmp_path))
    with served(headed, 1, writes, pools) as gateway:
        good, over = list[int](), threading.Event()

        def serve() -> None:
            while not over.is_set():
                good.append(gateway.chat(stream=False).status_code)
                time.sleep(0.05)

        thread = threading.Thread(target=serve)
        thread.start()
        began, early = time.monotonic(), 0
        first = memory_bytes(gateway.process.pid)
        try:
            while (passed := time.monotonic() - began) < seconds:
                path = rng.choice([*BODIES, "/v1/models/x"])
                tree = mutated(rng, BODIES.get(path, {}))
                body = torn(rng, json.dumps(tree).encode())
                head = (
                    f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json"
                    f"\r\nContent-Length: {len(body)}\r\n\r\n"
                ).encode()
                if rng.random() < 0.2:
                    head = torn(rng, head)
                # A whole request is answered; a client that half-closes has gone.
                if b"HTTP/1.1\r\n" in head and head.startswith(b"POST /v1/"):
                    status = posted(gateway, path, body)
                else:
                    status = status_of(gateway, head + body)
                seen[status] = seen.get(status, 0) + 1
                if status is not None and status >= 500:
                    bad.append((status, head + body))
                if not early and passed > seconds / 3:
                    early = memory_bytes(gateway.process.pid)
        finally:
            over.set()
            thread.join(10)
        last = memory_bytes(gateway.process.pid)
        print(f"{sum(seen.values())} requests, {seen}, {len(good)} good ones beside them")
        print(f"MiB: {first >> 20} at first, {early >> 20} at a third, {last >> 20} at last")
        assert last < early + (24 << 20)
    assert bad == []
    assert set(good) == {200}
    assert seen[200] > 0
    assert seen[400] > 0


def posted(gateway: Served, path: str, body: bytes) -> int:
    return requests.post(
        gateway.url + path, data=body, headers={"Content-Type": "application/json"}, timeout=10
    ).status_code
