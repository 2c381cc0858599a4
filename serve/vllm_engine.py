"""The real vLLM, in its own environment, by command line and HTTP only.

One engine serves the base and all of its adapters from one copy of the base.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import EngineError, ModelError
from serve.bundle import Bundle, copy_adapter
from serve.child import Child, clean_environment, free_port
from serve.engine import await_http, warm_up
from serve.engine_install import EngineHome

# vLLM's --max-lora-rank takes these alone.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def slot_rank(rank: int) -> int:
    """The rank that vLLM's adapter slots must have to hold ``rank``.

    Raises:
        ModelError: No slot is that large.
    """
    for slot in LORA_RANKS:
        if rank <= slot:
            return slot
    raise ModelError(f"adapter rank {rank}: vLLM holds {LORA_RANKS[-1]} at most; lower lora_r")


def command_line(
    bundle: Bundle, home: EngineHome, adapters: Mapping[str, Path], port: int
) -> list[str]:
    """The command that starts vLLM for a bundle.

    Args:
        bundle: What to serve.
        home: The engine's environment.
        adapters: Public name to the folder of its copy.
        port: Loopback port to listen on.
    """
    command = [
        str(home.python),
        "-m",
        "vllm.entrypoints.cli.main",
        "serve",
        str(bundle.base.path),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--served-model-name", bundle.base.name),
        *("--max-model-len", str(bundle.max_model_len)),
        *("--dtype", bundle.dtype),
        *("--uvicorn-log-level", "warning"),
    ]
    if home.device == "cpu":
        # Compiling costs half a minute at every start and gained nothing on 2 cores.
        command.append("--enforce-eager")
    if adapters:
        command += ["--enable-lora", "--max-lora-rank", str(slot_rank(bundle.max_rank))]
        # One slot more than adapters: with all slots taken, a base request that is batched
        # with adapter requests can get the last slot's adapter on CPU (vllm #48421).
        command += ["--max-loras", str(len(adapters) + 1)]
        command += ["--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
    return command


class VllmEngine:
    """vLLM as a supervised child on loopback; see ``serve.engine.Engine``."""

    def __init__(self, bundle: Bundle, home: EngineHome) -> None:
        self.name = "vllm"
        self._bundle = bundle
        self._home = home
        self._port = free_port()
        self._child: Child | None = None
        # vLLM takes public names, so nothing has to be written back into its answers.
        self.models: Mapping[str, str] = {model.name: model.name for model in bundle.models}
        self.echoes: Mapping[str, str] = self.models

    @property
    def base_url(self) -> str:
        """Where the engine listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id of the launcher above the engine's processes."""
        return None if self._child is None else self._child.pid

    @property
    def log_path(self) -> Path | None:
        """Where the log can be followed while the engine runs."""
        return None if self._child is None else self._child.log_path

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        """vLLM takes every field that the gateway lets through."""
        return body

    def start(self) -> None:
        """Copy the adapters into a private folder and start vLLM.

        Raises:
            EngineError: The environment is not what the lock file says.
        """
        if not self._home.current:
            raise EngineError(
                f"{self._home.path}: made from another lock file; run "
                f"`gradus engine install --device {self._home.device}` again"
            )
        self._child = Child(self.name)
        adapters = {
            adapter.name: copy_adapter(
                adapter, self._bundle.base.path, self._child.folder / "adapters" / adapter.name
            )
            for adapter in self._bundle.adapters
        }
        environment = clean_environment(
            # Its entry-point plug-ins look adapters up by the client's model name.
            VLLM_PLUGINS="",
            VLLM_CPU_KVCACHE_SPACE="1",
            # Its subcommands (ninja for kernels) live beside its interpreter.
            PATH=f"{self._home.path / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        )
        self._child.start(command_line(self._bundle, self._home, adapters, self._port), environment)

    def wait_ready(self, timeout_s: float = 600.0) -> None:
        """Return when base and adapters have each answered a warm-up request."""
        deadline = time.monotonic() + timeout_s
        await_http(self, "/health", deadline)
        warm_up(self, deadline)

    def alive(self) -> bool:
        """Whether vLLM's main process runs."""
        return self._child is not None and self._child.alive()

    def log_tail(self) -> str:
        """The end of vLLM's log."""
        return "" if self._child is None else self._child.log_tail()

    def stop(self) -> None:
        """End all of vLLM's processes and remove the private folder."""
        if self._child is not None:
            self._child.stop()
