"""Families behind the playground, and a browser that looks at it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from browser import Browser, Page
from stub_engine import Stub
from stub_gateway import Running, serving_door, serving_stub

from pipeline.core.controls import Controls
from serve.gateway.classify import Reading
from serve.gateway.directory import Route, Table
from serve.gateway.door import Door
from serve.gateway.upstreams import Upstream, UpstreamGroup
from serve.heads import Head

HEAD = "demo-l2-classifier"
LABELS = ("card_arrival", "card_linking", "top_up_by_bank_transfer_charge")
OVER = "document.documentElement.scrollWidth - window.innerWidth"
ASKED = "document.getElementById('state').textContent === 'Done.'"
TEXTS = "[...document.querySelectorAll('.answer')].map(node => node.textContent)"
FAULTS = """[...document.querySelectorAll('.fault')].filter(node => node.checkVisibility()).map(
  node => node.textContent)"""


def card(name: str, task: str, **more: Any) -> dict[str, Any]:
    """An entry of /v1/models, as the gateway's own are."""
    level = next(level for level in ("L0", "L1", "L2") if f"-{level.lower()}" in name)
    metadata = {
        "level": level, "base": None if level == "L0" else "demo-l0", "version": "c0ffee11",
        "bundle": "banking-intents", "ungated": False, "task": task, **more,
    }  # fmt: skip
    return {"id": name, "object": "model", "created": 1, "owned_by": "gradus", "metadata": metadata}


def writes(name: str, port: int, **more: Any) -> Route:
    """A model that chats; the stub is asked for ``demo-l0``, ``demo-l1`` or ``demo-l2``."""
    about = card(name, "chat", **more)
    served = f"demo-{about['metadata']['level'].lower()}"
    group = UpstreamGroup([Upstream(f"http://127.0.0.1:{port}")])
    return Route(name, "c0ffee11", about, group, served, served)


def reads(
    port: int, labels: Sequence[str] = LABELS, threshold: float | None = 0.4, kind: str = "single"
) -> Route:
    """A model with a head over the stub's states, which are [letters, 1, 0, -1]."""
    weight = np.zeros((1 if kind == "regress" else len(labels), 4), dtype=np.float32)
    # Falling logits, so that every label has its own share.
    weight[:, 1] = np.linspace(2, -2, len(weight)) if len(weight) > 1 else [0.25]
    head = Head(kind, tuple(labels), "last", weight, (), (), (), 0.0, 1.0, 1.0, threshold)
    group = UpstreamGroup([Upstream(f"http://127.0.0.1:{port}")])
    reading = Reading(HEAD, True, None, Controls(), {})
    about = card(HEAD, "classify", threshold=threshold, precision=0.9)
    return Route(HEAD, "c0ffee11", about, group, HEAD, HEAD, head=head, reading=reading)


def stub(**more: Any) -> Stub:
    """A stub that knows the whole family."""
    return Stub(models=("demo-l0", "demo-l1", "demo-l2", HEAD), **more)


@contextlib.contextmanager
def family(
    said: Stub | None = None, names: Sequence[str] = ("demo-l0", "demo-l1", "demo-l2"),
    head: dict[str, Any] | None = None, about: dict[str, Any] | None = None, **door: Any,
) -> Iterator[Running]:  # fmt: skip
    """A gateway before one stub: models that write, and where ``head`` is given one that reads.

    Args:
        about: more of each writer's metadata.
    """
    said = said or stub()
    with serving_stub(said) as port:
        routes = [writes(name, port, **(about or {})) for name in names]
        routes += [reads(port, **head)] if head is not None else []
        with serving_door(Door(directory=Table(routes), **door), said) as running:
            yield running


class Looker:
    """One browser for many tests, each with pages of its own."""

    def __init__(self, runner: asyncio.Runner, browser: Browser) -> None:
        self._runner, self._browser = runner, browser

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    async def visit(
        self, url: str, width: int = 1280, scheme: str = "light", height: int = 900
    ) -> Page:
        """A fresh page with a storage of its own, loaded and with its family or its key field."""
        page = await self._browser.page()
        await page.resize(width, height)
        await page.scheme(scheme)
        await page.call("Page.navigate", url=f"{url}/")
        await page.until(
            "document.readyState === 'complete' && (document.querySelector('.step') ||"
            " document.querySelector('#key-form:not([hidden]), #no-models:not([hidden])')) !== null"
        )
        return page


@contextlib.contextmanager
def looking() -> Iterator[Looker]:
    """A browser, started once."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        asyncio.Runner() as runner,
    ):
        browser = Browser(Path(profile))
        runner.run(browser.__aenter__())
        try:
            yield Looker(runner, browser)
        finally:
            runner.run(browser.__aexit__())


async def ask(page: Page, prompt: str = "My card was declined") -> None:
    """Types a prompt and presses Ctrl+Enter, as a person would."""
    await page.run("document.getElementById('prompt').focus()")
    await page.call("Input.insertText", text=prompt)
    await press(page, "Enter", 13, modifiers=2)


async def press(page: Page, key: str, code: int, modifiers: int = 0) -> None:
    """One key, down and up."""
    typed = {"text": "\r"} if key == "Enter" and not modifiers else {}
    for kind, more in (("keyDown", typed), ("keyUp", {})):
        await page.call(
            "Input.dispatchKeyEvent", type=kind, key=key, code=key, modifiers=modifiers,
            windowsVirtualKeyCode=code, **more,
        )  # fmt: skip
