"""The playground in a real browser: what it asks for, what it lets in, who can use it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import stub_engine
from browser import Page, program
from page_case import (
    ASKED,
    FAULTS,
    HEAD,
    OVER,
    TEXTS,
    Looker,
    ask,
    family,
    looking,
    press,
    reads,
    stub,
    writes,
)
from stub_engine import WORDS
from stub_gateway import serving_door, serving_stub

from serve.gateway.directory import Table
from serve.gateway.door import Door
from serve.keys import OneKey

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium is installed here")

_BARS = """[...document.querySelectorAll('.bars li')].map(node => [
  node.querySelector('.label').textContent, node.querySelector('.share').textContent,
  node.querySelector('.fill').getBoundingClientRect().width /
  node.querySelector('.track').getBoundingClientRect().width])"""
_SEEN = "document.querySelector('main').innerText"


@pytest.fixture(scope="module")
def look() -> Iterator[Looker]:
    with looking() as looker:
        yield looker


def test_it_asks_its_own_server_alone_and_nothing_is_complained_of(look: Looker) -> None:
    async def work(url: str) -> tuple[list[str], list[str]]:
        page = await look.visit(url)
        await ask(page)
        await page.until(ASKED)
        return page.requests, page.complaints

    with family(head={}) as running:
        asked, complaints = look.run(work(running.url))
        assert complaints == []
        assert {url for url in asked if not url.startswith((f"{running.url}/", "data:"))} == set()
        assert f"{running.url}/v1/classify" in asked
        bodies = [body for path, body in running.stub.seen if path == "/v1/chat/completions"]
        assert sorted(body["model"] for body in bodies) == ["demo-l0", "demo-l1", "demo-l2"]
        for body in bodies:
            assert body["messages"] == [{"role": "user", "content": "My card was declined"}]
            assert (body["temperature"], body["max_tokens"], body["stream"]) == (0, 256, True)


def test_text_of_a_model_stays_text(look: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = '<img src="x" onerror="window.hit=1"><script>window.hit=1</script>'
    monkeypatch.setattr(stub_engine, "WORDS", (hostile,))

    async def work(url: str) -> tuple[Any, ...]:
        page = await look.visit(url)
        await ask(page, hostile)
        await page.until(ASKED)
        await page.run("document.querySelectorAll('details').forEach(part => part.open = true)")
        made = "document.querySelectorAll('main img, main script').length"
        return (
            await page.run(TEXTS), await page.run(_BARS), await page.run(made),
            await page.run("typeof window.hit"), page.complaints, page.requests,
        )  # fmt: skip

    with family(
        stub(tokens=1), [f"{hostile}-l1"], {"labels": [hostile, "other"]}, {"bundle": hostile}
    ) as running:
        texts, bars, made, hit, complaints, asked = look.run(work(running.url))
        assert texts == [f"{hostile} "]
        assert bars[0][0] == hostile
        assert (made, hit, complaints) == (0, "undefined", [])
        assert f"{running.url}/x" not in asked


def test_the_policy_blocks_a_script_or_style_that_got_in_and_calls_elsewhere(look: Looker) -> None:
    inject = """port => new Promise(done => {
      const broken = [];
      addEventListener('securitypolicyviolation', event => {
        broken.push(event.effectiveDirective);
        if (broken.length === 5) done(broken.sort());
      });
      const script = document.createElement('script');
      script.textContent = 'window.hit = 1';
      const style = document.createElement('style');
      style.textContent = 'main{display:none}';
      const image = document.createElement('img');
      image.src = `http://127.0.0.1:${port}/image`;
      const handler = document.createElement('div');
      handler.setAttribute('onclick', 'window.hit = 2');
      document.body.append(script, style, image, handler);
      handler.click();
      fetch(`http://127.0.0.1:${port}/fetch`).catch(() => {});
    })"""

    async def work(url: str) -> tuple[Any, ...]:
        came: list[Any] = []
        elsewhere = await asyncio.start_server(lambda *ends: came.append(ends), "127.0.0.1", 0)
        async with elsewhere:
            page = await look.visit(url)
            port = elsewhere.sockets[0].getsockname()[1]
            broken = await page.run(f"({inject})({port})")
            hit = await page.run("typeof window.hit")
            # So that it can fail: from a page without a policy it gets through.
            await page.call("Page.navigate", url=f"{url}/healthz")
            await page.until("location.pathname === '/healthz'")
            before = len(came)
            await page.run(f"void fetch('http://127.0.0.1:{port}/').catch(() => 0)")
            async with asyncio.timeout(30):
                while len(came) == before:
                    await asyncio.sleep(0.02)
            for _, writer in came:
                writer.close()
        return broken, hit, before

    with family() as running:
        broken, hit, came = look.run(work(running.url))
    assert broken == ["connect-src", "img-src", "script-src-attr", "script-src-elem",
                      "style-src-elem"]  # fmt: skip
    assert hit == "undefined"
    assert came == 0


@pytest.mark.parametrize("width", [390, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_columns_stack_and_nothing_runs_over(
    look: Looker, monkeypatch: pytest.MonkeyPatch, width: int, scheme: str
) -> None:
    monkeypatch.setattr(stub_engine, "WORDS", ("word", "unbroken" * 30))
    lefts = """[...document.querySelectorAll('#answers article')].map(
      node => node.getBoundingClientRect().left)"""

    async def work(url: str, wide: int) -> tuple[Any, ...]:
        page = await look.visit(url, wide, scheme)
        await ask(page)
        await page.until(ASKED)
        await page.run("document.querySelectorAll('details').forEach(part => part.open = true)")
        paper = await page.run("getComputedStyle(document.body).backgroundColor")
        return await page.run(OVER), await page.run(lefts), paper

    labels = [f"{'very_long_label_' * 6}{index}" for index in range(9)]
    with family(head={"labels": labels}, about={"bundle": "banking-" * 20}) as running:
        over, places, paper = look.run(work(running.url, width))
        assert over <= 0
        assert len(set(places)) == 1
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 22, 28)"}[scheme]
        if width == 390 and scheme == "light":
            # So that it can fail: side by side where there is room.
            assert len(set(look.run(work(running.url, 1280))[1])) == 3


async def _give_key(page: Page, key: str) -> None:
    await page.run("document.getElementById('key').focus()")
    await page.call("Input.insertText", text=key)
    await press(page, "Enter", 13)


def test_a_wrong_key_is_told_and_the_right_one_stays_in_the_tab(look: Looker) -> None:
    kept = "[sessionStorage.length, localStorage.length, document.cookie, location.href]"
    hidden = "document.getElementById('key-form').hidden"

    async def work(url: str) -> dict[str, Any]:
        page = await look.visit(url)
        found: dict[str, Any] = {"before": (await page.run(_SEEN), list(page.complaints))}
        await _give_key(page, "gradus-wrong")
        await page.until(f"{FAULTS}.length === 1")
        found["wrong"] = (await page.run(FAULTS), await page.run(kept))
        found["focus"] = await page.run("document.activeElement.id")
        await _give_key(page, "gradus-ключ")
        await page.until(f"{FAULTS}[0].startsWith('A key has')")
        await _give_key(page, "gradus-right")
        await page.until("document.querySelector('.step') !== null")
        found["right"] = (await page.run(hidden), await page.run(FAULTS), await page.run(kept))
        await page.run("window.before = true; location.reload()")
        # Until it is gone, the old page answers.
        await page.until("!window.before && document.querySelector('.step') !== null")
        await ask(page)
        await page.until(ASKED)
        found["again"] = await page.run(TEXTS)
        await page.run("document.getElementById('forget').click()")
        found["forgotten"] = (await page.run(hidden), await page.run(kept))
        found["room"] = await page.run("document.getElementById('room').hidden")
        return found

    with family(keys=OneKey("gradus-right")) as running:
        found = look.run(work(running.url))
        home = f"{running.url}/"
    assert "API key" in found["before"][0]
    # Whether a key is needed is known without asking in vain.
    assert found["before"][1] == []
    told = ["The key was refused (401): Missing or wrong API key."]
    assert found["wrong"] == (told, [0, 0, "", home])
    assert found["focus"] == "key"
    assert found["right"] == (True, [], [1, 0, "", home])
    assert found["again"] == ["".join(f"{word} " for word in WORDS)] * 3
    assert found["forgotten"] == (False, [0, 0, "", home])
    assert found["room"] is True


def test_what_the_server_has_not_is_said(look: Looker) -> None:
    async def work(url: str) -> Any:
        page = await look.visit(url)
        return await page.run(_SEEN)

    with family() as running:
        asked = {"model": "demo-l2", "input": "x"}
        assert (
            requests.post(f"{running.url}/v1/classify", json=asked, timeout=10).status_code == 400
        )
        seen = look.run(work(running.url))
        assert "This server has no classifier" in seen
        assert "/v1/classify refuses all of them" in seen
        assert "No model here writes" not in seen
    with family(names=(), head={}) as running:
        seen = look.run(work(running.url))
        assert "No model here writes answers" in seen
        assert "no classifier" not in seen
    with family(names=()) as running:
        assert "lists no model for you" in look.run(work(running.url))


def test_the_tree_tells_level_base_version_and_gates(look: Looker) -> None:
    async def work(url: str) -> Any:
        page = await look.visit(url)
        steps = "[...document.querySelectorAll('.step')].map(node => node.innerText)"
        return await page.run(steps), await page.run("document.title")

    with serving_stub(stub()) as port:
        routes = [writes("demo-l2", port, ungated=True), reads(port), writes("demo-l0", port)]
        with serving_door(Door(directory=Table(routes)), stub()) as running:
            (base, task), title = look.run(work(running.url))
    assert base.split("\n")[0] == "L0general base"
    assert "over" not in base
    assert "✓ gated" in base
    assert "chats · over demo-l0 · c0ffee11" in task
    assert "✕ UNGATED" in task
    assert task.index("demo-l2-classifier") > task.index("✕ UNGATED")
    assert title == "banking-intents · gradus"


def test_a_keyboard_reaches_all_and_every_control_has_a_name(look: Looker) -> None:
    async def work(url: str) -> tuple[Any, ...]:
        page = await look.visit(url)
        await page.call("Accessibility.enable")
        tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
        stops = []
        for _ in range(8):
            await press(page, "Tab", 9)
            focus = "(({id, parentNode}) => id || parentNode.textContent)(document.activeElement)"
            stops.append(await page.run(focus))
        ring = await page.run("getComputedStyle(document.activeElement).outlineWidth")
        return tree, stops, ring

    with family(head={}) as running:
        tree, stops, ring = look.run(work(running.url))
    controls = [
        (node["role"]["value"], node["name"]["value"])
        for node in tree
        if node.get("role", {}).get("value")
        in {"textbox", "spinbutton", "button", "checkbox"} and not node["ignored"]
    ]  # fmt: skip
    # What Chromium itself would say to a screen reader.
    names = {"Prompt", "Temperature", "Max tokens", "Stop", "Ask all", "demo-l1", HEAD}
    assert names <= {name for _, name in controls}
    assert all(name for _, name in controls)
    assert stops == ["demo-l0", "demo-l1", "demo-l2", HEAD, "prompt", "temperature", "most", "ask"]
    assert ring == "3px"
