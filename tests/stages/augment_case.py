"""A stub of an endpoint (no model answers here), and the augment stage run against it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import DataError
from pipeline.core.stage import StageContext
from pipeline.stages.augment import Augment

KEY = "sk-stub-0123456789abcdef"
ROWS = [
    {"text": f"{start} {what}", "label": label}
    for label, what in (("card", "my new card"), ("cash", "the cash from the machine"))
    for start in ("Where is", "I am waiting for", "When can I have", "Who has taken")
]
Reply = tuple[int, dict[str, str], bytes]


def chat(text: Any, finish: str = "stop") -> Reply:
    """An answer as an OpenAI-compatible server writes it."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": finish,
    }
    return 200, {}, json.dumps({"id": "x", "object": "chat.completion", "created": 0,
                                "model": "stub", "choices": [choice]}).encode()  # fmt: skip


def refusal(status: int, message: str = "no") -> Reply:
    """An error as such a server writes it; it asks for a short pause."""
    return status, {"retry-after-ms": "1"}, json.dumps({"error": {"message": message}}).encode()


def reworded(body: dict[str, Any]) -> Reply:
    """A text that depends on the request alone, wrapped as models wrap theirs."""
    shown = re.findall(r"<text>\n(.*?)\n</text>", body["messages"][0]["content"], re.DOTALL)
    word = "".join(chr(ord("a") + int(digit)) for digit in str(body["seed"]))
    return chat(f'Here is the new text: "{shown[0] if shown else "This"}, {word} please"')


class Quiet(ThreadingHTTPServer):
    """Says nothing of a client that goes away in the middle."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: what a client saw is what tests look at."""


class StubEndpoint:
    """Takes requests, keeps them, and answers by ``reply``; ``n`` counts from 0."""

    def __init__(self, reply: Callable[[dict[str, Any], int], Reply]) -> None:
        self.reply = reply
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one write: two would wait for each other's acknowledgement.
            wbufsize = 1 << 16

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, content = stub.answer(self.path, self.headers, body)
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def answer(self, path: str, headers: Message, body: dict[str, Any]) -> Reply:
        assert path == "/v1/chat/completions"
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self.reply(body, number)
        finally:
            with self._lock:
                self._at_once -= 1


@contextmanager
def stub(
    reply: Callable[[dict[str, Any], int], Reply] = lambda body, _n: reworded(body),
) -> Iterator[StubEndpoint]:
    """A stub that listens until the block ends."""
    endpoint = StubEndpoint(reply)
    thread = threading.Thread(target=endpoint.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.server.shutdown()
        endpoint.server.server_close()
        thread.join()


class Case:
    """A folder with rows, and the stage run over them."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]] | None = None) -> None:
        self.folder = folder
        self.file = folder / "train.jsonl"
        self.write(rows or ROWS)
        self.source: dict[str, Any] = {"format": "classification", "seed": 0, "suffix": ".jsonl"}
        self.clean: dict[str, Any] | None = None
        self.out = folder / "out0"
        self.work = folder / "work"
        self.runs = 0

    def write(self, rows: list[dict[str, Any]]) -> None:
        self.file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def config(self, url: str, **more: Any) -> dict[str, Any]:
        settings = {
            "kind": "paraphrase", "endpoint": url, "model": "stub", "per_row": 1, "per_label": 3,
            "examples": 2, "temperature": 0.5, "max_new_tokens": 40, "seed": 3, "licence": None,
        }  # fmt: skip
        return {
            "sources": [self.source], "augment": {**settings, **more}, "clean": self.clean,
            "max_quarantined": 0,
        }  # fmt: skip

    def context(self, **options: Any) -> StageContext:
        self.runs += 1
        self.out = self.folder / f"out{self.runs}"
        self.out.mkdir()
        self.work.mkdir(exist_ok=True)
        options = {"concurrency": 1, "retries": 1, "timeout_s": 5, **options}
        return StageContext(self.out, self.work, options, {"train0": self.file}, lambda _told: None)

    def run(self, url: str, *, options: dict[str, Any] | None = None, **more: Any) -> Any:
        return Augment().run({}, self.config(url, **more), self.context(**(options or {})))

    def refused(self, url: str, *, options: dict[str, Any] | None = None, **more: Any) -> str:
        """The one line with which the stage stops."""
        with pytest.raises(DataError) as caught:
            self.run(url, options=options, **more)
        message = str(caught.value)
        assert message.startswith("data.augment")
        assert "\n" not in message
        return message

    def lines(self, name: str = "rows.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / name).read_text("utf-8").splitlines()]
