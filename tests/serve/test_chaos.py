"""`gradus serve` before the real vLLM while things break: one server, in this order.

With ``-m "long or not long"`` the core alone is killed too.

Streams here are of some thousands of tokens, so that every break comes in the middle of them.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from golden_bundle import golden_bundle
from tiny_family import Family

pytestmark = pytest.mark.engine
LONG = 8192
CHAT = {"model": "demo-l2", "messages": [{"role": "user", "content": "My card was declined"}]}
ENDLESS = {"max_tokens": 6000, "ignore_eos": True, "temperature": 0}
"""At some hundred tokens a second: far longer than a test waits."""


@dataclass
class Stream:
    """One client that reads a stream in a thread of its own."""

    url: str
    model: str
    more: dict[str, Any]
    seen: bytes = b""
    failed: str = ""
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        body = {**CHAT, "model": self.model, "stream": True, **self.more}
        try:
            with requests.post(
                f"{self.url}/v1/chat/completions", json=body, stream=True, timeout=60
            ) as answer:
                assert answer.status_code == 200, answer.text
                for chunk in answer.iter_content(None):
                    self.seen += chunk
        except Exception as error:
            self.failed = repr(error)

    @property
    def events(self) -> list[bytes]:
        return [event for event in self.seen.split(b"\n\n") if event]

    def ended(self, timeout_s: float) -> Stream:
        self.thread.join(timeout_s)
        assert not self.thread.is_alive(), "the stream did not end"
        assert self.failed == ""
        return self


@pytest.fixture(scope="module")
def server(
    family: Family, tmp_path_factory: pytest.TempPathFactory, serve_vllm: Any
) -> Iterator[Any]:
    """The command line's process, with its own engine and room for long answers."""
    root = tmp_path_factory.mktemp("chaos")
    bundle = golden_bundle(family, root, base=long_base(family, root))
    tree = json.loads((bundle / "bundle.json").read_text())
    tree["base"]["path"] = str(root / "base")
    (bundle / "bundle.json").write_text(json.dumps({**tree, "max_model_len": LONG}))
    with serve_vllm(bundle) as found:
        yield found


def long_base(family: Family, root: Path) -> Path:
    """The family's base, which has no weights for positions, with more of them."""
    base = root / "base"
    shutil.copytree(family.base, base)
    place = base / "config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "max_position_embeddings": LONG}))
    return base


def until(holds: Callable[[], bool], seconds: float) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "it does not come to hold"
        time.sleep(0.05)
    return time.monotonic() - began


def ready(server: Any) -> int:
    return requests.get(f"{server.url}/readyz", timeout=5).status_code


def good(server: Any) -> int:
    body = {**CHAT, "max_tokens": 4}
    return requests.post(f"{server.url}/v1/chat/completions", json=body, timeout=30).status_code


def words_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def engine_of(server: Any, descendants: Any) -> tuple[int, str, int]:
    """(pid of the API server, its URL, pid of the core that computes)."""
    below = [pid for pid, _ in descendants(server.process.pid)]
    (api,) = [
        pid for pid in below
        if "vllm.entrypoints.cli.main" in (said := words_of(pid)) and "launcher.py" not in said[2]
    ]  # fmt: skip
    (core,) = [pid for pid in below if any("EngineCore" in word for word in words_of(pid))]
    words = words_of(api)
    return api, f"http://127.0.0.1:{words[words.index('--port') + 1]}", core


def running(engine_url: str) -> float:
    """vLLM's own word for how many requests it is computing or has waiting."""
    text = requests.get(f"{engine_url}/metrics", timeout=10).text
    told = re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)$", text, re.M)
    assert told
    return sum(float(number) for number in told)


def streams(server: Any, count: int, **more: Any) -> list[Stream]:
    """Streams of all models in turn, each of them well under way."""
    names = ("demo-l0", "demo-l1", "demo-l2")
    made = [Stream(server.url, names[n % 3], {**ENDLESS, **more}) for n in range(count)]

    def well_under_way() -> bool:
        assert not any(stream.failed for stream in made), [stream.failed for stream in made]
        return all(len(stream.events) > 20 for stream in made)

    until(well_under_way, 120)
    return made


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_ends_vllms_own_work(
    server: Any, descendants: Any, stream: bool
) -> None:
    _, engine_url, _ = engine_of(server, descendants)
    assert running(engine_url) == 0
    body = json.dumps({**CHAT, **ENDLESS, "stream": stream})
    clients = [http.client.HTTPConnection(server.url.removeprefix("http://")) for _ in range(3)]
    for client in clients:
        client.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    until(lambda: running(engine_url) == 3, 60)
    for client in clients:
        client.close()
    until(lambda: running(engine_url) == 0, 5)
    # On a busy machine a look at the engine's health may have been missed.
    until(lambda: good(server) == 200, 15)


def test_kill_9_of_the_engine_ends_streams_in_an_error_and_it_is_back_by_itself(
    server: Any, descendants: Any, await_gone: Any
) -> None:
    broken(server, descendants, await_gone, lambda api, _core: api)


@pytest.mark.long
def test_kill_9_of_the_core_alone_ends_streams_in_an_error_and_it_is_back_by_itself(
    server: Any, descendants: Any, await_gone: Any
) -> None:
    """vLLM's API server lives on for a moment, and tells of it in streams that it ends."""
    broken(server, descendants, await_gone, lambda _api, core: core)


def broken(
    server: Any, descendants: Any, await_gone: Any, chosen: Callable[[int, int], int]
) -> None:
    api, _, core = engine_of(server, descendants)
    backs = sum(line.endswith("is back") for line in server.lines)
    compared = sum(line.startswith("parity: 16 ") for line in server.lines)
    assert compared == backs + 1
    old = descendants(server.process.pid)
    under_way = streams(server, 6)
    os.kill(chosen(api, core), signal.SIGKILL)
    # One may have had all of its tokens before: then it ended as it should.
    cut = [
        stream for stream in under_way if b'"finish_reason":"length"' not in stream.ended(20).seen
    ]
    assert cut
    for stream in cut:
        error = json.loads(stream.events[-1].removeprefix(b"data: "))["error"]
        assert error["message"]
        assert b"[DONE]" not in stream.seen
    until(lambda: ready(server) == 503, 5)
    refused = requests.post(f"{server.url}/v1/chat/completions", json=CHAT, timeout=10)
    assert refused.status_code == 503
    assert requests.get(f"{server.url}/healthz", timeout=5).status_code == 200
    until(lambda: ready(server) == 200, 300)
    assert good(server) == 200
    # Nothing of the engine of before is left, and the new one was compared before it counted.
    await_gone(old, 5)
    assert sum(line.endswith("is back") for line in server.lines) == backs + 1
    assert sum(line.startswith("parity: 16 ") for line in server.lines) == compared + 1


def test_zz_sigterm_under_load_lets_streams_finish_and_leaves_no_process(
    server: Any, descendants: Any, await_gone: Any
) -> None:
    """Last in this file: it ends the server."""
    folder = newest_folder(server, descendants)
    processes = descendants(server.process.pid)
    under_way = streams(server, 6, max_tokens=600)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: ready(server) == 503, 1)
    assert (
        requests.post(f"{server.url}/v1/chat/completions", json=CHAT, timeout=5).status_code == 503
    )
    for stream in under_way:
        events = stream.ended(60).events
        assert events[-1] == b"data: [DONE]"
        finish = json.loads(events[-2].removeprefix(b"data: "))["choices"][0]["finish_reason"]
        assert finish == "length"
    assert server.process.wait(60) == 0
    await_gone(processes, 10)
    assert not folder.exists()


def newest_folder(server: Any, descendants: Any) -> Path:
    """The runtime folder of the engine that runs now."""
    for pid, _ in descendants(server.process.pid):
        words = words_of(pid)
        if any(word.endswith("launcher.py") for word in words):
            return Path(words[words.index(next(w for w in words if w.endswith("launcher.py"))) + 1])
    raise AssertionError("no launcher runs")
