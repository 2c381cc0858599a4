"""The real vLLM, in its own environment, by command line and HTTP only.

One engine serves the base and all of its adapters from one copy of the base.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import EngineError, ModelError
from pipeline.core.schema_serve import EngineArguments
from serve.adapter_folder import copy_adapter
from serve.adapter_slots import AdapterSlots
from serve.bundle import Bundle, BundleAdapter, BundleHead
from serve.child import Child, clean_environment, free_port
from serve.engine import await_http, warm_up
from serve.engine_install import EngineHome
from serve.heads import read_head

# Where an engine's private folder holds them.
ADAPTERS = "adapters"
# Fields of EngineArguments that say how answers are written.
_OF_WRITERS = frozenset({
    "tool_call_parser", "reasoning_parser", "kv_cache_dtype", "enable_prefix_caching",
})  # fmt: skip
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
    bundle: Bundle,
    home: EngineHome,
    adapters: Mapping[str, Path],
    port: int,
    pooling: str | None = None,
    host: str = "127.0.0.1",
    *,
    room: int = 0,
    rank: int = 0,
) -> list[str]:
    """The command that starts vLLM for a bundle.

    Args:
        bundle: What to serve.
        home: The engine's environment.
        adapters: Public name to the folder of its copy.
        port: TCP port to listen on.
        pooling: The engine reads for heads, and pools states so: ``last``, ``mean`` or ``cls``;
            None: it writes.
        host: Address to listen on: loopback, but in a container of its own.
        room: Adapters that may be loaded later, beside these.
        rank: The largest of theirs.
    """
    command = [
        str(home.python),
        "-m",
        "vllm.entrypoints.cli.main",
        "serve",
        str(bundle.base.path),
        *("--host", host, "--port", str(port)),
        *("--served-model-name", bundle.base.name),
        *("--max-model-len", str(bundle.max_model_len)),
        *("--dtype", bundle.dtype),
        *("--uvicorn-log-level", "warning"),
        # Sampling has one source: the bundle, whose words the gateway adds (each version its
        # own). What ends an answer is taken from the base's generation_config.json even so.
        *("--generation-config", "vllm"),
        *_arguments(bundle.engine, writes=pooling is None),
    ]
    if home.device == "cpu":
        # Compiling costs half a minute at every start and gained nothing on 2 cores.
        command.append("--enforce-eager")
    if bundle.chat_template is not None:
        command += ["--chat-template", str(bundle.chat_template)]
    if pooling is not None:
        # The states as they are: a head was trained on them, not on directions.
        config = json.dumps({"pooling_type": pooling.upper(), "use_activation": False})
        command += ["--runner", "pooling", "--convert", "embed", "--pooler-config", config]
    if adapters:
        known: list[BundleAdapter | BundleHead] = [*bundle.adapters, *bundle.heads]
        ranks = [each.rank for each in known if each.name in adapters]
        command += ["--enable-lora", "--max-lora-rank", str(slot_rank(max([rank, *ranks])))]
        # One slot more than adapters: with all slots taken, a base request that is batched
        # with adapter requests can get the last slot's adapter on CPU (vllm #48421).
        command += ["--max-loras", str(len(adapters) + room + 1)]
        command += ["--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
    return command


def _arguments(told: EngineArguments, *, writes: bool) -> list[str]:
    """A recipe's `serve.engine` as vLLM's options.

    Args:
        writes: The engine does; one that pools states for heads parses no answers, and the states
            that its heads were trained on had no prefix from a cache and no smaller type.
    """
    words: list[str] = []
    for name, value in told.stated().items():
        if name in _OF_WRITERS and not writes:
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    if writes and told.tool_call_parser is not None:
        # Without it tool_choice "auto", the default of a request with tools, is refused.
        words.append("--enable-auto-tool-choice")
    return words


def served(bundle: Bundle, pooling: str | None) -> tuple[BundleAdapter | BundleHead, ...]:
    """The adapters of an engine that writes, or those of the heads that one pooling suits."""
    if pooling is None:
        return bundle.adapters
    return tuple(head for head in bundle.heads if read_head(head).pooling == pooling)


def copies(
    bundle: Bundle, adapters: Sequence[BundleAdapter | BundleHead], folder: Path
) -> dict[str, Path]:
    """Copies of adapters below ``folder``, as an engine reads them: public name to place."""
    return {
        each.name: copy_adapter(each, bundle.base.path, folder / ADAPTERS / each.name)
        for each in adapters
    }


def require_current(home: EngineHome) -> None:
    """Pass where the environment is what the lock file says.

    Raises:
        EngineError: It is not.
    """
    if not home.current:
        raise EngineError(
            f"{home.path}: made from another lock file; run "
            f"`gradus engine install --device {home.device}` again"
        )


def variables(home: EngineHome, *, room: int = 0) -> dict[str, str]:
    """What vLLM's environment has beyond that of any engine.

    Args:
        room: Adapters may be loaded later. On a CPU that takes vLLM's developer routes too, the
            only ones by which an adapter leaves its slot; both are on loopback alone.
    """
    loading = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if room else {}
    if room and home.device == "cpu":
        loading["VLLM_SERVER_DEV_MODE"] = "1"
    return {
        **loading,
        # Its entry-point plug-ins look adapters up by the client's model name.
        "VLLM_PLUGINS": "",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # Its subcommands (ninja for kernels) live beside its interpreter.
        "PATH": f"{home.path / 'bin'}:/usr/local/bin:/usr/bin:/bin",
    }


class VllmEngine:
    """vLLM as a supervised child on loopback; see ``serve.engine.Engine``.

    One that writes serves the base and all adapters; one that reads, the states that the heads of
    one way of pooling stand on.
    """

    def __init__(
        self,
        bundle: Bundle,
        home: EngineHome,
        pooling: str | None = None,
        *,
        room: int = 0,
        rank: int = 0,
    ) -> None:
        """
        Args:
            bundle: What to serve.
            home: The engine's environment.
            pooling: How it pools where it reads for heads; None: it writes.
            room: Versions that can be loaded later, beside the bundle's own adapters.
            rank: The largest of theirs.
        """
        self.name = "vllm" if pooling is None else f"vllm-{pooling}"
        self.pooling = pooling
        self._bundle = bundle
        self._home = home
        self._port = free_port()
        self._child: Child | None = None
        own = served(bundle, pooling)
        self._own = {each.name for each in own}
        rank = slot_rank(max([rank, *(each.rank for each in own)])) if own else 0
        self.slots = AdapterSlots(
            self.base_url,
            {each.name: each for each in own},
            room=room if own else 0,
            rank=rank,
            removes=home.device == "cpu",
        )

    @property
    def models(self) -> Mapping[str, str]:
        """What it holds of the bundle's own; see ``slots`` for the rest.

        vLLM takes public names, so nothing has to be written back into its answers.
        """
        names = [name for name in self.slots.held if name in self._own]
        if self.pooling is None:
            names.insert(0, self._bundle.base.name)
        return {name: name for name in names}

    @property
    def echoes(self) -> Mapping[str, str]:
        """Names in answers are those that were asked for."""
        return self.models

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
        require_current(self._home)
        child = self._child = Child(self.name)
        slots = self.slots
        # What was loaded since the last start is there again after it.
        folder = child.folder / ADAPTERS
        places = slots.placed(lambda name, each: copy_adapter(
            each, self._bundle.base.path, folder / name))  # fmt: skip
        command = command_line(
            self._bundle, self._home, places, self._port, self.pooling,
            room=slots.capacity - len(places), rank=slots.rank,
        )  # fmt: skip
        child.start(command, clean_environment(**variables(self._home, room=slots.room)))

    def wait_ready(self, timeout_s: float = 600.0) -> None:
        """Return when base and adapters have each answered a warm-up request."""
        deadline = time.monotonic() + timeout_s
        await_http(self, "/health", deadline)
        names = [*self.slots.held]
        if self.pooling is None:
            names.insert(0, self._bundle.base.name)
        warm_up(self, deadline, "/pooling" if self.pooling else "/v1/chat/completions", names)

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
