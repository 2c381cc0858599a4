"""What ends a stream and tells its cost: the engine's own events, and no text that looks so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from serve.gateway.stream import Counted, events, renamer

STOPPED = {"choices": [{"index": 0, "finish_reason": "stop", "stop_reason": "data: [DONE]"}]}
USED = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5000}}
DONE = b"data: [DONE]\n\n"


class Reader:
    """Bytes as aiohttp gives them."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = [*parts]

    async def readany(self) -> bytes:
        return self.parts.pop(0) if self.parts else b""


def event(tree: object, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(tree, separators=(',', ':'))}\n\n".encode()


def passed(parts: Sequence[bytes], **more: Any) -> tuple[list[tuple[bytes, bool]], Counted]:
    """Every chunk with whether it was the last one by then."""

    async def read() -> tuple[list[tuple[bytes, bool]], Counted]:
        counted = Counted()
        content = cast("Any", Reader(parts[1:]))
        made = events(
            parts[0], content, renamer("m", "m"), counted, keep_usage=True, **more
        )  # fmt: skip
        return [(chunk, counted.ended) async for chunk in made], counted

    return asyncio.run(read())


def test_a_stop_text_that_says_done_ends_nothing() -> None:
    parts = [event(STOPPED), event({"choices": [{"index": 1, "delta": {}}]}), event(USED), DONE]
    chunks, counted = passed(parts)
    assert [ended for _, ended in chunks] == [False, False, False, True]
    assert (counted.prompt, counted.answer, counted.failed) == (7, 5000, False)


def test_a_stream_that_was_cut_off_behind_such_a_text_is_told() -> None:
    chunks, counted = passed([event(STOPPED)])
    assert json.loads(chunks[-1][0].removeprefix(b"data: "))["error"]["code"] == "engine_away"
    assert counted.failed


@pytest.mark.parametrize("cut", range(1, len(DONE)))
def test_the_end_is_known_however_it_is_cut(cut: int) -> None:
    chunks, counted = passed([event(USED) + DONE[:cut], DONE[cut:]])
    assert b"".join(chunk for chunk, _ in chunks) == event(USED) + DONE
    assert counted.ended
    assert not counted.failed


def test_half_an_event_is_not_passed() -> None:
    chunks, counted = passed([event(USED), b'data: {"choices":[{"in'])
    told = [json.loads(chunk.removeprefix(b"data: ")) for chunk, _ in chunks]
    assert told[0] == USED
    assert told[1]["error"]["code"] == "engine_away"
    assert counted.failed


SCHEMA = {"usage": {"input_tokens": 0, "output_tokens": 0}}
CREATED = {"type": "response.created", "response": {"usage": None, "tools": [SCHEMA]}}
LAST = {"usage": {"input_tokens": 9, "output_tokens": 4}, "tools": [SCHEMA]}
ENDED = {"type": "response.completed", "response": LAST}


def test_usage_of_a_response_is_no_key_of_the_clients_own_schema() -> None:
    _, counted = passed([event(CREATED, "response.created")], responses=True)
    assert counted.prompt is None
    parts = [event(CREATED, "response.created"), event(ENDED, "response.completed")]
    chunks, counted = passed(parts, responses=True)
    assert [ended for _, ended in chunks] == [False, True]
    assert (counted.prompt, counted.answer, counted.failed) == (9, 4, False)
    whole = Counted()
    whole.read_response(json.dumps(LAST).encode())
    assert (whole.prompt, whole.answer) == (9, 4)


@pytest.mark.parametrize("last", ["response.created", "response.output_text.done"])
def test_a_response_that_ends_without_its_last_event_is_told(last: str) -> None:
    said = {"type": last, "text": "\nevent: response.completed\ndata: {}\n\n"}
    chunks, counted = passed([event(said, last)], responses=True)
    assert b"engine_away" in chunks[-1][0]
    assert counted.failed
