"""Answers on the playground in a real browser: streams, figures, bars, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from aiohttp import web
from browser import program
from page_case import (
    ASKED,
    FAULTS,
    HEAD,
    LABELS,
    TEXTS,
    Looker,
    ask,
    family,
    looking,
    press,
    stub,
    writes,
)
from stub_engine import WORDS
from stub_gateway import serving_door, serving_stub

from serve.gateway.directory import Table
from serve.gateway.door import Door

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium is installed here")

_BUSY = "[...document.querySelectorAll('#answers article')].map(n => n.ariaBusy === 'true')"
_FIGURES = """[...document.querySelectorAll('#answers article')].map(node => Object.fromEntries(
  [...node.querySelectorAll('.figures div')].map(
    one => [one.querySelector('dt').textContent, one.querySelector('dd').textContent])))"""
_BARS = """[...document.querySelectorAll('.bars li')].map(node => [
  node.querySelector('.label').textContent, node.querySelector('.share').textContent,
  node.querySelector('.fill').getBoundingClientRect().width /
  node.querySelector('.track').getBoundingClientRect().width])"""


@pytest.fixture(scope="module")
def look() -> Iterator[Looker]:
    with looking() as looker:
        yield looker


def test_each_column_streams_at_its_own_pace_and_is_measured(look: Looker) -> None:
    async def work(url: str) -> tuple[Any, ...]:
        page = await look.visit(url)
        await ask(page)
        await page.until(f"{_BUSY}.join() === 'false,true' && {TEXTS}[1].length > 0")
        while_slow = await page.run(TEXTS)
        await page.until(ASKED)
        return while_slow, await page.run(TEXTS), await page.run(_FIGURES)

    quick, slow = stub(tokens=8), stub(tokens=8, chunk_s=0.25)
    with serving_stub(quick) as one, serving_stub(slow) as other:
        door = Door(directory=Table([writes("demo-l1", one), writes("demo-l2", other)]))
        with serving_door(door, quick) as running:
            while_slow, texts, figures = look.run(work(running.url))
    said = "".join(f"{word} " for word in WORDS)
    assert texts == [said, said]
    assert while_slow[0] == said
    assert 0 < len(while_slow[1]) < len(said)
    assert said.startswith(while_slow[1])
    assert [column["tokens"] for column in figures] == ["8", "8"]
    assert all(column["first token"].endswith(" ms") for column in figures)
    # Seven intervals of a quarter second; a busy machine makes them longer, never shorter.
    assert 2 < float(figures[1]["tokens/s"]) < 4.2


def test_bars_are_the_probabilities_that_the_api_gives(look: Looker) -> None:
    async def work(url: str) -> tuple[Any, ...]:
        page = await look.visit(url)
        await ask(page)
        await page.until(ASKED)
        return await page.run(_BARS), await page.run("document.querySelector('.verdict').innerText")

    with family(head={"threshold": 0.4}) as running:
        asked = {"model": HEAD, "input": "My card was declined"}
        answer = requests.post(f"{running.url}/v1/classify", json=asked, timeout=10).json()
        bars, verdict = look.run(work(running.url))
    shares = answer["data"][0]["probabilities"]
    assert [label for label, _, _ in bars] == sorted(shares, key=shares.__getitem__, reverse=True)
    for label, shown, width in bars:
        assert shown == f"{100 * shares[label]:.1f} %"
        assert width == pytest.approx(shares[label], abs=0.01)
    assert verdict == answer["data"][0]["label"] == LABELS[0]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (
            {"threshold": 0.97},
            "It abstains: the likeliest has 86.7 %, below its threshold of 97.0 %",
        ),
        ({"kind": "multi"}, "card_arrival, card_linking"),
        ({"kind": "regress"}, "0.2500"),
    ],
)
def test_a_head_of_any_kind_is_told_in_words(look: Looker, head: dict[str, Any], said: str) -> None:
    async def work(url: str) -> Any:
        page = await look.visit(url)
        await ask(page)
        await page.until(ASKED)
        return await page.run("document.querySelector('.verdict').innerText"), page.complaints

    with family(head=head) as running:
        verdict, complaints = look.run(work(running.url))
    assert said in verdict
    assert complaints == []


@pytest.mark.parametrize(
    ("change", "texts", "said"),
    [
        ({"fail": 429}, "", "Too many requests (429): as asked."),
        ({"fail": 400}, "", "The request was refused (400): as asked."),
        ({"die_after": 3}, "alpha beta gamma ", "The answer broke off: The engine went away"),
        ({"models": ()}, "", "It is not here (404): no such model."),
    ],
)
def test_what_goes_wrong_is_told_in_its_column(
    look: Looker, change: dict[str, Any], texts: str, said: str
) -> None:
    async def work(url: str) -> Any:
        page = await look.visit(url)
        await ask(page)
        await page.until(ASKED)
        return await page.run(TEXTS), await page.run(FAULTS)

    good = stub()
    bad = stub()
    for name, value in change.items():
        setattr(bad, name, value)
    with serving_stub(good) as one, serving_stub(bad) as other:
        door = Door(directory=Table([writes("demo-l0", one), writes("demo-l2", other)]))
        with serving_door(door, good) as running:
            shown, faults = look.run(work(running.url))
    assert shown == ["".join(f"{word} " for word in WORDS), texts]
    assert len(faults) == 1
    assert faults[0].startswith(said)


def test_stop_ends_the_work_in_the_engine_too(look: Looker) -> None:
    async def work(url: str) -> Any:
        page = await look.visit(url)
        await ask(page)
        await page.until(f"{TEXTS}.every(text => text.length > 0)")
        await page.run("document.getElementById('stop').focus()")
        await press(page, "Enter", 13)
        await page.until("document.getElementById('state').textContent === 'Stopped.'")
        return (
            await page.run(TEXTS),
            await page.run(FAULTS),
            await page.run("[document.activeElement.id, document.getElementById('stop').disabled]"),
        )

    with family(stub(tokens=200, chunk_s=0.1)) as running:
        texts, faults, after = look.run(work(running.url))
        for _ in range(100):
            if running.stub.open == 0:
                break
            look.run(asyncio.sleep(0.05))
        assert (running.stub.open, running.stub.cancelled) == (0, 3)
    assert all(0 < len(text) < 600 for text in texts)
    assert faults == []
    assert after == ["ask", True]


def test_a_stream_reads_as_in_the_browsers_own_parser_however_it_is_cut(look: Looker) -> None:
    stream = (
        ': a comment\r\ndata: {"a": "é𝄞"}\r\n\r\nevent: message\ndata: one\ndata:two\nid: 3\n\n'
        "\n\rdata: bare\r\rdata:  two spaces\r\n\r\ndata\n\ndata: a:b\ndataless: no\n\n"
        "data: [DONE]\n\ndata: cut off"
    )
    read = f"""import('/page-ask.js').then(({{ Events }}) => {{
      const bytes = new TextEncoder().encode({json.dumps(stream)}), found = new Set();
      for (let first = 0; first <= bytes.length; first++) {{
        for (let size = 1; size < 8; size++) {{
          const events = new Events(), decoder = new TextDecoder(), got = [];
          const feed = piece => got.push(...events.push(decoder.decode(piece, {{stream: true}})));
          feed(bytes.slice(0, first));
          for (let at = first; at < bytes.length; at += size) feed(bytes.slice(at, at + size));
          found.add(JSON.stringify(got));
        }}
      }}
      return [...found].map(one => JSON.parse(one));
    }})"""
    oracle = """new Promise(done => {
      const got = [], source = new EventSource('/stream');
      source.onmessage = event => got.push(event.data);
      source.onerror = () => { source.close(); done(got); };
    })"""

    async def told(request: web.BaseRequest) -> web.Response:
        if request.path != "/stream":
            return web.Response(text="a page without a policy")
        return web.Response(body=stream.encode(), content_type="text/event-stream")

    async def work(url: str) -> Any:
        page = await look.visit(url)
        ours = await page.run(read)
        runner = web.ServerRunner(web.Server(told))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        other = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            await page.call("Page.navigate", url=f"{other}/")
            await page.until(f"location.origin === '{other}'")
            return ours, await page.run(oracle)
        finally:
            await runner.cleanup()

    with family() as running:
        ways, theirs = look.run(work(running.url))
    assert ways == [theirs]
    assert theirs == ['{"a": "é𝄞"}', "one\ntwo", "bare", " two spaces", "", "a:b", "[DONE]"]
