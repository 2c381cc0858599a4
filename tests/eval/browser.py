"""A real headless Chromium, spoken to over the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self

import aiohttp

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# The first start of a browser reads 400 MB from disk.
_PATIENCE_S = 90.0


def program() -> str | None:
    """The browser that is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Page:
    """One page: what it asked for, what it complained of, and a hand to steer it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, **given: Any) -> dict[str, Any]:
        """One command and what it answered."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": given})
        return await asyncio.wait_for(self._answers[number], _PATIENCE_S)

    async def run(self, script: str) -> Any:
        """The value of an expression on the page."""
        told = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def open(self, path: Path, width: int, height: int, scheme: str) -> None:
        """Loads a file in a window of this size, light or dark."""
        await self.resize(width, height)
        await self.scheme(scheme)
        self._loaded.clear()
        await self.call("Page.navigate", url=path.as_uri())
        await asyncio.wait_for(self._loaded.wait(), _PATIENCE_S)

    async def resize(self, width: int, height: int) -> None:
        """The window's size in CSS pixels; narrow ones are phones."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip

    async def scheme(self, name: str, media: str = "") -> None:
        """Light or dark, screen or print."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        await self.call("Emulation.setEmulatedMedia", media=media, features=features)

    async def until(self, script: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + _PATIENCE_S
        while not await self.run(script):
            assert time.monotonic() < end, f"never true: {script}; {self.complaints}"
            await asyncio.sleep(0.05)

    async def picture(self, path: Path, **more: Any) -> None:
        """The window as a PNG."""
        told = await self.call("Page.captureScreenshot", format="png", **more)
        path.write_bytes(base64.b64decode(told["data"]))

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told.get("result", told))
                continue
            name, about = told["method"], told["params"]
            if name == "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])
            elif name == "Page.loadEventFired":
                self._loaded.set()
            elif name == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(about["exceptionDetails"])[:800])
            elif name == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
                self.complaints.append(json.dumps(about["args"])[:800])
            elif name == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                self.complaints.append(json.dumps(about["entry"])[:800])


class Browser:
    """Chromium with a profile of its own, ended with the block; its network is 127.0.0.1 alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __aenter__(self) -> Self:
        found = program()
        assert found is not None
        self._process = subprocess.Popen(
            [
                found, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update",
                "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                "--remote-debugging-port=0", "--hide-scrollbars",
                f"--user-data-dir={self._folder}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    async def page(self) -> Page:
        """A fresh page that notes what it asks for and what it complains of."""
        place = self._folder / "DevToolsActivePort"
        end = time.monotonic() + _PATIENCE_S
        while not place.is_file() or "\n" not in place.read_text():
            assert time.monotonic() < end, "the browser did not start"
            await asyncio.sleep(0.1)
        port = place.read_text().split()[0]
        url = f"http://127.0.0.1:{port}/json/new?about:blank"
        async with self._session.put(url) as answer:
            target = await answer.json()
        socket = await self._session.ws_connect(
            target["webSocketDebuggerUrl"], max_msg_size=0, heartbeat=None
        )
        page = Page(socket)
        for part in ("Page", "Network", "Runtime", "Log"):
            await page.call(f"{part}.enable")
        return page


def browse(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs what steers a browser to its end."""
    return asyncio.run(work)
