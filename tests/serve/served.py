"""`serve` before stub engines, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from stub_engine import Stub
from stub_gateway import serving_stub

ROOT = Path(__file__).resolve().parents[2]
_SERVE = """\
import json, sys
from pathlib import Path
exec(sys.argv[3])
from serve.assembly import Serving
from serve.run import serve
told = json.loads(sys.argv[2])
paths = {name: Path(told[name]) for name in ("access_log", "keys") if told.get(name)}
settings = Serving(port=0, **{**told, "engine_urls": tuple(told["engine_urls"]), **paths})
sys.exit(serve(Path(sys.argv[1]), settings, lambda text: print(text, flush=True)))
"""


class Served:
    """One gateway's process.

    Args:
        before: Python that its process runs first.
        environment: more of it.
        stdin: it can be written to.
        more: fields of Serving.
    """

    def __init__(
        self, bundle: Path, drain_s: float, ports: list[int], *, before: str = "",
        environment: dict[str, str] | None = None, stdin: bool = False, **more: Any,
    ) -> None:  # fmt: skip
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        settings = json.dumps({"drain_s": drain_s, "engine_urls": urls, **more}, default=str)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(bundle), settings, before],
            stdin=subprocess.PIPE if stdin else None,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("ready: "):
                self.url = line.split()[1].removesuffix("/v1")
                return
        raise AssertionError("".join(self.lines))

    def chat(self, *, stream: bool = True) -> requests.Response:
        body = {"model": "demo-l2", "messages": [{"role": "user", "content": "x"}]}
        return requests.post(
            f"{self.url}/v1/chat/completions",
            json={**body, "stream": stream}, stream=stream, timeout=20,
        )  # fmt: skip

    def ready(self) -> int:
        return requests.get(f"{self.url}/readyz", timeout=5).status_code

    def end(self) -> int:
        """Waits for the end; the exit status."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout.readlines()
        return self.process.wait(20)


@contextlib.contextmanager
def served(family: Any, drain_s: float, *stubs: Stub, **more: Any) -> Iterator[Served]:
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(serving_stub(stub)) for stub in stubs]
        found = Served(family.bundle, drain_s, ports, **more)
        try:
            yield found
        finally:
            found.process.kill()
            found.process.wait()
            assert found.process.stdout is not None
            found.process.stdout.close()
