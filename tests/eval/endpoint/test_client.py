"""How an endpoint may fail, on a real socket, and what is made of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from endpoint_case import Served, dropped, plain, serving, status

from eval.endpoint.address import endpoint_url
from eval.endpoint.answers import CHAT, read_chat
from eval.endpoint.client import Endpoint, Patience, Refused
from pipeline.core.errors import EngineError, GradusError, UserError
from tests.silent_server import closed_port

QUICK = Patience(timeout_s=5.0, retries=2, pause_s=0.01)
COUNTED = '{"choices": [{"message": {"content": "card"}}], "usage": {"prompt_tokens": %s}}'
BODY = {"messages": [{"role": "user", "content": "say card"}]}


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Served()) as one:
        yield one


def ask(served: Served, patience: Patience = QUICK, **more: Any) -> tuple[Any, float]:
    async def run() -> tuple[Any, float]:
        async with Endpoint(served.url, model="demo", patience=patience, **more) as endpoint:
            return await endpoint.post(CHAT, BODY, read_chat, "row 7")

    return asyncio.run(run())


def choose(served: Served, **more: Any) -> str:
    async def run() -> str:
        async with Endpoint(served.url, patience=QUICK, **more) as endpoint:
            return await endpoint.choose_model()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "reply",
    [
        status(429), status(500), status(502), status(503), dropped, plain("{not json"),
        plain("<html>busy</html>"), plain('{"choices": []}'), plain("[]"), plain("null"),
        plain('{"choices": [{"message": {"content": 3}}]}'), plain("[" * 20000),
        plain(COUNTED % "1e999"), plain(COUNTED % "-3"),
        status(429, **{"Retry-After": "Mon, 01 Jan 99999999999 00:00:00 GMT"}),
    ],
    ids=[
        "429", "500", "502", "503", "dropped", "broken", "html", "no choice", "list", "null",
        "no text", "deep", "endless count", "count below nothing", "endless date",
    ],
)  # fmt: skip
def test_what_passes_is_tried_again(served: Served, reply: Any) -> None:
    served.script = [reply, reply]
    written, _ = ask(served)
    assert (written.text, written.finish) == ("card", "stop")
    assert served.asked["say card"] == 3


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (status(500, "out of luck"), r"answers 500 \(out of luck\)"),
        (dropped, "cannot be reached"),
        (plain("<html>hello</html>"), "no JSON, it begins '<html>"),
        (plain('{"choices": []}'), "it holds no choice"),
    ],
)
def test_what_stays_ends_in_one_line_after_the_limit(
    served: Served, reply: Any, words: str
) -> None:
    served.script = [reply] * 9
    with pytest.raises(EngineError, match=words) as caught:
        ask(served)
    assert served.asked["say card"] == QUICK.retries + 1
    line = str(caught.value)
    assert "row 7" in line
    assert "after 3 tries" in line
    assert "\n" not in line


def test_a_slow_endpoint_is_left_after_the_timeout(served: Served) -> None:
    served.delay_s = 5.0
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"no answer within 0\.2 s, after 2 tries"):
        ask(served, Patience(timeout_s=0.2, retries=1, pause_s=0.01))
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(("retries", "tries"), [(None, 3), (0, 1), (5, 6)])
def test_an_address_that_no_connection_reaches_is_tried_less_unless_told(
    retries: int | None, tries: int
) -> None:
    async def run() -> None:
        patience = Patience(timeout_s=5.0, retries=retries, pause_s=0.001)
        async with Endpoint(closed_port(), model="demo", patience=patience) as endpoint:
            await endpoint.post(CHAT, BODY, read_chat, "row 7")

    with pytest.raises(EngineError, match=f"cannot be reached .* after {tries} tries"):
        asyncio.run(run())


def test_a_connection_that_is_dropped_was_one(served: Served) -> None:
    served.script = [dropped] * 9
    with pytest.raises(EngineError, match="after 6 tries"):
        ask(served, Patience(timeout_s=5.0, pause_s=0.001))
    assert served.asked["say card"] == 6


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(served: Served, form: str) -> None:
    text = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
    served.script = [status(429, "later", **{"Retry-After": text})]
    began = time.monotonic()
    ask(served)
    assert time.monotonic() - began > 0.9


def test_retry_after_holds_back_every_request(served: Served) -> None:
    times: list[float] = []

    def late(_request: Any, body: dict[str, Any]) -> Any:
        times.append(time.monotonic())
        return web.json_response(served.chat(body))

    async def run() -> None:
        async with Endpoint(served.url, model="demo", patience=QUICK) as endpoint:
            first = asyncio.create_task(endpoint.post(CHAT, BODY, read_chat, "a"))
            await asyncio.sleep(0.2)
            await asyncio.gather(first, endpoint.post(CHAT, BODY, read_chat, "b"))

    served.script = [status(429, "later", **{"Retry-After": "1"}), late, late]
    began = time.monotonic()
    asyncio.run(run())
    assert min(times) - began > 0.9


def test_pauses_grow(served: Served) -> None:
    served.script = [status(500)] * 3
    began = time.monotonic()
    ask(served, Patience(timeout_s=5, retries=3, pause_s=0.1))
    assert time.monotonic() - began > 0.1 + 0.2 + 0.4


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (400, Refused, "said no"), (422, Refused, "said no"), (401, UserError, "give --api-key"),
        (404, UserError, "check the URL and --model"), (308, UserError, "points elsewhere"),
        (405, UserError, "answers 405"),
    ],
)  # fmt: skip
def test_what_is_final_is_told_at_once(
    served: Served, code: int, kind: type[Exception], words: str
) -> None:
    served.script = [status(code)] * 3
    with pytest.raises(kind, match=words):
        ask(served)
    assert served.asked["say card"] == 1


def test_the_key_is_sent_and_never_repeated(served: Served) -> None:
    served.key = "s3cret-key"
    assert choose(served, api_key="s3cret-key") == "demo"
    with pytest.raises(UserError, match="refuses the key"):
        choose(served, api_key="wrong")
    served.script = [status(500, "your key s3cret-key is fine")] * 3
    with pytest.raises(EngineError) as caught:
        ask(served, api_key="s3cret-key")
    assert "s3cret-key" not in str(caught.value)


def test_a_key_that_no_header_may_hold_is_refused_without_being_shown(served: Served) -> None:
    with pytest.raises(UserError, match="--api-key: holds a character") as caught:
        choose(served, api_key="s3cret\nkey")
    assert "s3cret" not in str(caught.value)


def test_an_unknown_model_lists_those_there_are(served: Served) -> None:
    served.models = ["one", "two"]
    with pytest.raises(UserError, match="has no model 'three'; it has: one, two"):
        choose(served, model="three")
    with pytest.raises(UserError, match="Give --model; it has: one, two"):
        choose(served)
    assert choose(served, model="two") == "two"


def test_no_more_requests_at_once_than_allowed(served: Served) -> None:
    under_way, most = 0, 0

    async def slow(_request: Any, body: dict[str, Any]) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.05)
        under_way -= 1
        return web.json_response(served.chat(body))

    async def run() -> None:
        async with Endpoint(served.url, model="demo", concurrency=3) as endpoint:
            await asyncio.gather(*(endpoint.post(CHAT, BODY, read_chat, "r") for _ in range(12)))

    served.script = [slow] * 12
    asyncio.run(run())
    assert most == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("127.0.0.1:8000", "no http"), ("ftp://host/v1", "no http"), ("http://", "no http"),
        ("http://user:pass@host/v1", "give --api-key"), ("http://host/v1?key=1", "end it with"),
        ("http://[::1", "is no URL"), ("http://a..b/v1", "is no URL"),
        (f"http://{64 * 'x'}.com/v1", "is no URL"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str, words: str) -> None:
    with pytest.raises(GradusError, match=words) as caught:
        endpoint_url(text)
    assert "pass" not in str(caught.value).replace("password", "")


def test_an_address_without_a_path_gets_the_version() -> None:
    assert endpoint_url("http://host:1/") == "http://host:1/v1"
    assert endpoint_url("http://host:1/v1/") == "http://host:1/v1"
    assert endpoint_url("https://host/openai/v1") == "https://host/openai/v1"


@pytest.mark.parametrize("host", ["[::1]:8000", "my_host", "host.example.", f"{63 * 'x'}.com"])
def test_an_address_that_a_resolver_takes_is_taken(host: str) -> None:
    assert endpoint_url(f"http://{host}") == f"http://{host}/v1"
