"""Speed is measured on a stand-in whose delays are known."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from endpoint_case import Served, serving

from eval.text.speed import Stream, speed
from pipeline.core.errors import EngineError, UserError

FIRST_S, NEXT_S, TOKENS = 0.12, 0.02, 6


class Streaming(Served):
    """Writes TOKENS pieces, the first after FIRST_S, each other after NEXT_S."""

    def __init__(self) -> None:
        super().__init__()
        self.usage, self.breaks_every = True, 0
        self.at_once = self.most_at_once = self.streams = 0

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(body)
        self.streams += 1
        number = self.streams
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.script:
                return self.script.pop(0)(request, body)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await self._event(response, {"choices": [{"delta": {"role": "assistant"}}]})
            for piece in range(TOKENS):
                await asyncio.sleep(NEXT_S if piece else FIRST_S)
                if self.breaks_every and number % self.breaks_every == 0:
                    assert request.transport is not None
                    request.transport.close()
                    return response
                await self._event(response, {"choices": [{"delta": {"content": "hi "}}]})
            if self.usage:
                usage = {"prompt_tokens": 3, "completion_tokens": 2 * TOKENS}
                await self._event(response, {"choices": [], "usage": usage})
            await response.write(b"data: [DONE]\n\n")
            return response
        finally:
            self.at_once -= 1

    async def _event(self, response: web.StreamResponse, event: dict[str, Any]) -> None:
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")


@pytest.fixture
def served() -> Iterator[Streaming]:
    one = Streaming()
    with serving(one):
        yield one


def test_delays_of_the_endpoint_are_found_again_at_every_level(served: Streaming) -> None:
    began = time.perf_counter()
    found = speed(served.url, ["one", "two"], levels=(1, 8), max_tokens=9)
    wall_s = time.perf_counter() - began
    assert (found["model"], found["tokens_by"]) == ("demo", "the endpoint")
    alone, many = found["levels"]
    for level, requests in ((alone, 8), (many, 16)):
        assert (level["requests"], level["failed"]) == (requests, 0)
        assert FIRST_S <= level["first_token_p50_s"] <= level["first_token_p95_s"] < FIRST_S + 1
        each_s = (TOKENS - 1) * NEXT_S / (2 * TOKENS - 1)
        assert each_s * 0.9 <= level["between_tokens_p50_s"] < 20 * each_s
    total_s = FIRST_S + (TOKENS - 1) * NEXT_S
    assert 0.1 * 2 * TOKENS / total_s < alone["tokens_per_s"] <= 2 * TOKENS / total_s
    assert many["tokens_per_s"] > 2 * alone["tokens_per_s"]
    assert served.most_at_once == 8
    # The warm-up is one request more, and all of them together fit into the time that passed.
    assert served.streams == 1 + 8 + 16
    assert wall_s > 9 * total_s


def test_requests_stream_and_questions_are_taken_in_turn(served: Streaming) -> None:
    speed(served.url, ["one", "two"], levels=(4,), max_tokens=9)
    assert {body["messages"][0]["content"] for body in served.seen} == {"one", "two"}
    assert all(body["stream"] and body["max_tokens"] == 9 for body in served.seen)


def test_pieces_stand_for_tokens_where_the_endpoint_does_not_count(served: Streaming) -> None:
    served.usage = False
    found = speed(served.url, ["one"], levels=(8,))
    assert found["tokens_by"] == "pieces"
    assert found["levels"][0]["between_tokens_p50_s"] >= 0.9 * NEXT_S


def test_broken_streams_are_counted_and_not_tried_again(served: Streaming) -> None:
    served.breaks_every = 4
    (level,) = speed(served.url, ["one"], levels=(8,))["levels"]
    assert level["failed"] == 4
    assert served.streams == 17


def test_an_endpoint_without_a_whole_stream_is_one_clear_line(served: Streaming) -> None:
    served.script = [lambda *_: web.json_response({"error": "busy"}, status=503)]
    with pytest.raises(EngineError, match=r"none of 1 streams came to its end \(it answers 503"):
        speed(served.url, ["one"])
    served.script = [lambda *_: web.Response(text="data: {nonsense\n\n")]
    with pytest.raises(EngineError, match="none of 1 streams"):
        speed(served.url, ["one"])
    served.script = [lambda *_: web.Response(text="data: [1]\n\n")]
    with pytest.raises(EngineError, match="none of 1 streams"):
        speed(served.url, ["one"])
    served.script = [lambda *_: web.json_response({"choices": [{"message": {}}]})]
    with pytest.raises(EngineError, match="a stream without text"):
        speed(served.url, ["one"])
    with pytest.raises(UserError, match="has no model 'x'"):
        speed(served.url, ["one"], model="x")


def test_one_token_has_no_time_between_tokens() -> None:
    assert Stream(0.1, 0.1, 1, True).between_s is None
    assert Stream(0.1, 0.4, 4, True).between_s == pytest.approx(0.1)
