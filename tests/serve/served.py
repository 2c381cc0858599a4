"""`serve` before stub engines, in a process of its own."""

from __future__ import annotations

import contextlib
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
import sys
from pathlib import Path
from serve.assembly import Serving
from serve.run import serve
urls = tuple(sys.argv[3].split(","))
sys.exit(serve(Path(sys.argv[1]), Serving(port=0, drain_s=float(sys.argv[2]), engine_urls=urls),
               lambda text: print(text, flush=True)))
"""


class Served:
    """One gateway's process."""

    def __init__(self, bundle: Path, drain_s: float, ports: list[int]) -> None:
        urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(bundle), str(drain_s), urls],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
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
def served(family: Any, drain_s: float, *stubs: Stub) -> Iterator[Served]:
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(serving_stub(stub)) for stub in stubs]
        found = Served(family.bundle, drain_s, ports)
        try:
            yield found
        finally:
            found.process.kill()
            found.process.wait()
            assert found.process.stdout is not None
            found.process.stdout.close()
