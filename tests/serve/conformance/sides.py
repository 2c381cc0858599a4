"""The two that are compared: the real vLLM by itself, and the same one through the gateway."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from served import Served
from tiny_family import Family

from serve.attached import AttachedEngine
from serve.bundle import read_bundle
from serve.child import Child, clean_environment, free_port
from serve.engine import warm_up
from serve.engine_install import find_home
from serve.vllm_engine import command_line, copies, variables

MODEL = "demo-l2"
READY_S = 300.0


@dataclass(frozen=True)
class Sides:
    """URLs without a path.

    Attributes:
        bare: the engine's own.
        through: the gateway's, which asks that engine.
    """

    bare: str
    through: str

    @property
    def both(self) -> dict[str, str]:
        return {"bare": self.bare, "through": self.through}


@contextlib.contextmanager
def started(family: Family) -> Iterator[Sides]:
    """Starts an engine that calls tools, and the gateway before it."""
    home = find_home()
    if home is None:
        pytest.skip("vLLM is not installed; run `gradus engine install` first")
    bundle, port = read_bundle(family.bundle), free_port()
    child = Child("vllm")
    try:
        adapters = copies(bundle, bundle.adapters, child.folder)
        command = command_line(bundle, home, adapters, port)
        # Without them the engine refuses every request that leaves a tool's choice to the model.
        command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
        child.start(command, clean_environment(**variables(home)))
        names = {model.name: model.name for model in bundle.models}
        engine = AttachedEngine(f"http://127.0.0.1:{port}", names)
        try:
            engine.wait_ready(READY_S)
            warm_up(engine, time.monotonic() + READY_S, "/v1/chat/completions")
        except Exception as error:
            raise AssertionError(child.log_tail(40)) from error
        gateway = Served(Path(family.bundle), 5.0, [port])
        try:
            yield Sides(engine.base_url, gateway.url)
        finally:
            gateway.process.terminate()
            gateway.end()
            assert gateway.process.stdout is not None
            gateway.process.stdout.close()
    finally:
        child.stop()
