"""A stand-in for a served model on a real socket: it counts, and it misbehaves as it is told.

Its tokens are characters, its template puts marks around them, and the log-probability of a
token is a sum that a test can work out by hand.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from aiohttp import web

START, END, BREAK = 1, 2, 3
ROLES = {"system": 4, "user": 5, "assistant": 6}
Reply = Callable[[web.Request, dict[str, Any]], Any]


def ids_of(messages: Sequence[dict[str, Any]], prompt: bool) -> list[int]:
    """What the stand-in's template and tokenizer make of a conversation."""
    ids: list[int] = []
    for message in messages:
        ids += [START, ROLES[message["role"]], *map(ord, message["content"]), END, BREAK]
    return [*ids, START, ROLES["assistant"]] if prompt else ids


def logprob(before: int, token: int) -> float:
    """Of a token after another, in nats."""
    return -((7 * token + 5 * before) % 11 + 1) / 4


def logprobs_of(ids: Sequence[int]) -> list[float | None]:
    """Of each token, the first apart."""
    return [None, *(logprob(before, token) for before, token in pairwise(ids))]


class Served:
    """The stand-in.

    Attributes:
        answer: what it writes to a question.
        constrains: whether it heeds structured_outputs.
        scores: whether it gives log-probabilities of prompts.
        echo: what ``/completions`` answers in their place: ``null`` and ``one`` (choice of
            several) with 200, ``500``, or nothing but what ``scores`` says.
        key: the bearer token that it wants.
        adapters: further models, which it says are adapters over the first.
        most_scoring: the most prompts that it was asked to score at once.
        script: replies to the next questions, before it answers as it would.
        asked: questions by their last message's text.
        seen: every body it was sent.
    """

    def __init__(self) -> None:
        self.answer: Callable[[str], str] = lambda text: text.split()[-1]
        self.constrains, self.scores = True, True
        self.echo = ""
        self.key: str | None = None
        self.models = ["demo"]
        self.adapters: list[str] = []
        self.scoring, self.most_scoring = 0, 0
        self.delay_s = 0.0
        self.script: list[Reply] = []
        self.asked: Counter[str] = Counter()
        self.seen: list[dict[str, Any]] = []
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        return app

    def _locked_out(self, request: web.Request) -> bool:
        return self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}"

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if self._locked_out(request):
            return web.json_response({"error": {"message": "wrong key"}}, status=401)
        cards = [{"id": name, "parent": None} for name in self.models]
        cards += [{"id": name, "parent": self.models[0]} for name in self.adapters]
        return web.json_response({"data": cards})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = body["messages"][-1]["content"]
        self.asked[text] += 1
        self.seen.append(body)
        self._begin_scoring(body.get("return_token_ids"), 1)
        await asyncio.sleep(self.delay_s)
        self._end_scoring(body.get("return_token_ids"), 1)
        if self.script:
            reply = self.script.pop(0)(request, body)
            return await reply if asyncio.iscoroutine(reply) else reply
        return web.json_response(self.chat(body))

    def _begin_scoring(self, scores: Any, prompts: int) -> None:
        self.scoring += prompts if scores else 0
        self.most_scoring = max(self.most_scoring, self.scoring)

    def _end_scoring(self, scores: Any, prompts: int) -> None:
        self.scoring -= prompts if scores else 0

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """A whole and right answer."""
        messages = body["messages"]
        ids = ids_of(messages, body.get("add_generation_prompt", True))
        choice = body.get("structured_outputs", {}).get("choice")
        text = self.answer(messages[-1]["content"])
        if choice and self.constrains:
            text = text if text in choice else sorted(choice)[0]
        told: dict[str, Any] = {}
        if body.get("return_token_ids"):
            told["prompt_token_ids"] = ids
        if body.get("prompt_logprobs") is not None and self.scores:
            found = logprobs_of(ids)
            told["prompt_logprobs"] = [
                None if value is None else {str(token): {"logprob": value}}
                for token, value in zip(ids, found, strict=True)
            ]
        message = {"role": "assistant", "content": text}
        return {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(ids), "completion_tokens": len(text) + 1},
            **told,
        }

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(body)
        self._begin_scoring(body.get("echo"), len(body["prompt"]))
        await asyncio.sleep(self.delay_s)
        self._end_scoring(body.get("echo"), len(body["prompt"]))
        if self.echo == "500":
            return web.json_response({"error": {"message": "prompt must be str"}}, status=500)
        if self.echo:
            prompts = body["prompt"] if self.echo == "null" else body["prompt"][:1]
            kept = None if self.echo == "null" else {"token_logprobs": logprobs_of(prompts[0])}
            choices = [
                {"index": number, "text": "x", "logprobs": kept} for number, _ in enumerate(prompts)
            ]
            return web.json_response({"choices": choices})
        if not self.scores or not body.get("echo"):
            return web.json_response({"error": {"message": "no echo here"}}, status=400)
        choices = [
            {"index": number, "text": "", "logprobs": {"token_logprobs": [*logprobs_of(ids), -1.0]}}
            for number, ids in enumerate(body["prompt"])
        ]
        return web.json_response({"choices": choices[::-1]})


def status(code: int, text: str = "said no", **headers: str) -> Reply:
    """A refusal in OpenAI's shape."""
    body = {"error": {"message": text}}
    return lambda _request, _body: web.json_response(body, status=code, headers=headers)


def plain(text: str, kind: str = "text/html") -> Reply:
    """200 with any text."""
    return lambda _request, _body: web.Response(text=text, content_type=kind)


def dropped(request: web.Request, _body: dict[str, Any]) -> web.Response:
    """The connection is closed without a word."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Runs the stand-in in a thread of its own."""
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(served.app(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runners.append(loop.run_until_complete(start()))
        started.set()
        loop.run_forever()
        loop.run_until_complete(runners[0].cleanup())
        loop.close()

    runners: list[web.AppRunner] = []
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield served
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def write_rows(path: Any, labels: Sequence[str], count: int = 6) -> Any:
    """A classification file whose texts end in their label."""
    rows = [
        {"text": f"row {number} says {labels[number % len(labels)]}",
         "label": labels[number % len(labels)]}
        for number in range(count)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
