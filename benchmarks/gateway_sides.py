"""What is measured: each side a process of its own, on a core of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peer import ROOT

MODEL = "demo-l0"
START_S = 180.0
# A proxy of the environment must not stand between the sides, and no side asks the world.
_QUIET = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Side:
    """A gateway under test, or the upstream itself.

    Attributes:
        pid: of its first process; None: there is no process between.
        key: what it takes as bearer.
    """

    name: str
    port: int
    pid: int | None = None
    key: str = "none"

    @property
    def pss_bytes(self) -> float:
        """Proportional set size of all of its processes."""
        return 0.0 if self.pid is None else pss_bytes(self.pid)


def pss_bytes(pid: int) -> float:
    """Proportional set size of a process and all that it started: shared pages in shares."""
    import psutil

    first = psutil.Process(pid)
    return float(sum(p.memory_full_info().pss for p in (first, *first.children(recursive=True))))


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """This thread, and what it starts meanwhile, on one of the cores that it may use.

    Args:
        core: 0 or 1; with a single core at hand both are that one.
    """
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str | Path], folder: Path, extra: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a side; all of its group has ended when this ends."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={**os.environ, **_QUIET, **(extra or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def await_answer(
    name: str, ask: Callable[[], Any], process: subprocess.Popen[bytes], folder: Path
) -> None:
    """Until ``ask`` passes.

    Raises:
        EngineError: the process ended, or it took too long.
    """
    from benchmarks.gateway_client import Broken
    from pipeline.core.errors import EngineError

    ends = time.monotonic() + START_S
    while True:
        try:
            ask()
            return
        except (OSError, Broken) as error:
            if process.poll() is None and time.monotonic() < ends:
                time.sleep(0.2)
                continue
            lines = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
            raise EngineError(
                f"{name}: did not start ({error}); its log ends: {' | '.join(lines[-3:])}"
            ) from None


def run_loop(work: Any) -> Any:
    """Runs a coroutine in a fast loop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def chat_body(tokens: int, *, stream: bool) -> dict[str, Any]:
    """What every side is asked."""
    said = "A transfer that I made on Monday has not come. Where is it, and what can I do now?"
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You answer what customers of a bank ask."},
            {"role": "user", "content": said},
        ],
        "max_tokens": tokens,
        "temperature": 0,
    }
    return {**body, "stream": True} if stream else body


@contextlib.contextmanager
def stub(folder: Path, tokens: int) -> Iterator[Side]:
    """The upstream that all sides share; it computes nothing."""
    port = _port()
    command = [
        sys.executable, "-m", "tests.serve.stub_engine", "--port", str(port),
        "--tokens", str(tokens), "--models", MODEL,
    ]  # fmt: skip
    with running("stub", command, folder) as process:
        yield _answering(Side("direct", port), process, folder)


@contextlib.contextmanager
def ours(folder: Path, upstream: str, model: str = MODEL) -> Iterator[Side]:
    """Our gateway, with everything switched on."""
    from benchmarks.gateway_ours import make_key

    port, key = _port(), make_key(folder)
    command = [
        sys.executable, "-m", "benchmarks.gateway_ours", str(port), upstream, folder, model
    ]  # fmt: skip
    with running("ours", command, folder) as process:
        yield _answering(Side("ours", port, process.pid, key), process, folder, model)


@contextlib.contextmanager
def bare(folder: Path, upstream: str) -> Iterator[Side]:
    """FastAPI and an aiohttp client, nothing else."""
    port = _port()
    command = [sys.executable, "-m", "benchmarks.gateway_bare", str(port), upstream]
    with running("bare", command, folder) as process:
        yield _answering(Side("bare", port, process.pid), process, folder)


@contextlib.contextmanager
def litellm(folder: Path, upstream: str) -> Iterator[Side]:
    """LiteLLM's proxy."""
    from benchmarks.gateway_litellm import KEY, command, environment

    port = _port()
    with running("litellm", command(folder, upstream, MODEL, port), folder, environment()) as made:
        yield _answering(Side("litellm", port, made.pid, KEY), made, folder)


def _answering(
    side: Side, process: subprocess.Popen[bytes], folder: Path, model: str = MODEL
) -> Side:
    from benchmarks.gateway_client import fetch, request_bytes

    body = {**chat_body(1, stream=False), "model": model}
    request = request_bytes(side.port, body, side.key)
    name = "stub" if side.name == "direct" else side.name
    await_answer(name, lambda: run_loop(fetch(side.port, request)), process, folder)
    return side


def _port() -> int:
    from serve.child import free_port

    return free_port()


def usage_counted(folder: Path) -> int:
    """Requests that our gateway's database holds, read by SQLite itself."""
    import sqlite3

    from benchmarks.gateway_ours import USAGE

    with contextlib.closing(sqlite3.connect(folder / USAGE)) as database:
        return int(database.execute("SELECT count(*) FROM used").fetchone()[0])


def lines_logged(folder: Path) -> int:
    """Lines of our gateway's access log that are JSON with a request's id."""
    from benchmarks.gateway_ours import LOG

    lines = (folder / LOG).read_text().splitlines()
    return sum("request_id" in json.loads(line) for line in lines)
