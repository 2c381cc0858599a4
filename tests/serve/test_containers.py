"""What deploy/kubernetes starts, started: the same arguments, the probes' own paths."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from golden_bundle import golden_bundle
from stub_engine import Stub
from stub_gateway import free_port, serving_stub
from test_dockerfile import health_check
from tiny_family import Family

from serve.engine_install import find_home
from serve.keys import add_key

ROOT = Path(__file__).resolve().parents[2]
TOKENS = 100


def container(name: str) -> dict[str, Any]:
    text = (ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text()
    first: dict[str, Any] = next(yaml.safe_load_all(text))
    found: dict[str, Any] = first["spec"]["template"]["spec"]["containers"][0]
    return found


@dataclass
class Process:
    """One container's process."""

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> int:
        """The status; 0 where nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def wait(self, path: str, status: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (found := self.get(path)) != status:
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, f"{path}: {found}"
            time.sleep(0.2)

    def output(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()


@contextlib.contextmanager
def started(verb: list[str], words: list[str], changes: Mapping[str, str], **env: str) -> Any:
    """A container's arguments, places of this test in the place of the container's."""
    port = free_port()
    for old, new in changes.items():
        words = [word.replace(old, new) for word in words]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *verb, *words, "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield Process(process, port)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()


@contextlib.contextmanager
def gateway(bundle: Path, engine: int, folder: Path, **env: str) -> Iterator[tuple[Process, str]]:
    """The gateway's container before an engine's port, and a token."""
    keys = folder / "keys" / "keys.json"
    keys.parent.mkdir()
    token, _ = add_key(keys, "me", models=(), rpm=None, tpm=None, concurrency=None, expires_at=None)
    changes = {
        "/models/$(GRADUS_BUNDLE)": str(bundle),
        "http://gradus-engine:8001": f"http://127.0.0.1:{engine}",
        "/keys/keys.json": str(keys),
    }
    usage = f"sqlite:///{folder}/usage.db"
    words = container("gateway")["args"]
    with started(["serve"], words, changes, GRADUS_USAGE_URL=usage, **env) as process:
        yield process, token


def test_gateway_answers_its_probes_and_its_health_check_and_drains(
    family: Family, tmp_path: Path
) -> None:
    probes = [container("gateway")[f"{kind}Probe"]["httpGet"]["path"]
              for kind in ("startup", "readiness", "liveness")]  # fmt: skip
    stub = Stub(tokens=30, chunk_s=0.1)
    with serving_stub(stub) as engine, gateway(family.bundle, engine, tmp_path) as (door, token):
        door.wait("/readyz", 200, 60)
        assert [door.get(path) for path in probes] == [200, 200, 200]
        check = [sys.executable, "-c", health_check("gateway", door.port)]
        assert subprocess.run(check, check=False).returncode == 0
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{door.port}/v1", api_key=token)
        assert door.get("/v1/models") == 401
        asked: Any = [{"role": "user", "content": "Hello"}]
        stream = client.chat.completions.create(model="demo-l2", messages=asked, stream=True)
        next(iter(stream))
        door.process.send_signal(signal.SIGTERM)
        door.wait("/readyz", 503, 5)
        assert door.get("/healthz") == 200
        text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
        assert len(text.split()) >= 28
        client.close()
        assert door.process.wait(30) == 0
        stub.healthy = False


def test_gateway_is_not_ready_while_its_engine_is_not_well(family: Family, tmp_path: Path) -> None:
    stub = Stub()
    with serving_stub(stub) as engine, gateway(family.bundle, engine, tmp_path) as (door, _):
        door.wait("/readyz", 200, 60)
        stub.healthy = False
        door.wait("/readyz", 503, 10)
        assert door.get("/healthz") == 200
        stub.healthy = True
        door.wait("/readyz", 200, 10)


@pytest.mark.engine
def test_the_real_engine_and_the_gateway_with_a_key_between_them(
    family: Family, tmp_path: Path
) -> None:
    if find_home() is None:
        pytest.skip("vLLM is not installed; run `gradus engine install` first")
    bundle = golden_bundle(family, tmp_path / "golden")
    words = container("engine")["args"]
    changes = {"/models/$(GRADUS_BUNDLE)": str(bundle)}
    with started(["engine", "start"], words, changes, VLLM_API_KEY="between") as engine:
        assert container("engine")["readinessProbe"]["httpGet"]["path"] == "/health"
        # Its log is long: read, or it would wait for a reader.
        log = subprocess.Popen(["cat"], stdin=engine.process.stdout, stdout=subprocess.DEVNULL)
        engine.wait("/health", 200, 240)
        assert engine.get("/v1/models") == 401
        env = {"GRADUS_ENGINE_KEY": "between"}
        with gateway(bundle, engine.port, tmp_path, **env) as (door, token):
            door.wait("/readyz", 200, 120)
            url = f"http://127.0.0.1:{door.port}/v1"
            client = openai.OpenAI(base_url=url, api_key=token, max_retries=0)
            assert [model.id for model in client.models.list().data] == family.names
            made = client.completions.create(model="demo-l2", prompt="My card", max_tokens=4)
            assert made.usage is not None
            assert made.usage.completion_tokens > 0
            client.close()
            door.process.send_signal(signal.SIGTERM)
            assert door.process.wait(30) == 0
            assert "parity: " in door.output()
        _stream_outlives_sigterm(engine)
        log.wait(10)


def _stream_outlives_sigterm(engine: Process) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=60)
    body = {"model": "demo-l2", "prompt": "My card", "max_tokens": TOKENS, "stream": True,
            "ignore_eos": True}  # fmt: skip
    headers = {"Content-Type": "application/json", "Authorization": "Bearer between"}
    connection.request("POST", "/v1/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.readline().startswith(b"data: ")
    engine.process.send_signal(signal.SIGTERM)
    lines = [line for line in answer.read().splitlines() if line.startswith(b"data: ")]
    connection.close()
    assert lines[-1] == b"data: [DONE]"
    assert len(lines) >= TOKENS // 2
    assert engine.process.wait(90) == 0
