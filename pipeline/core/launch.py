"""What a launch is: how many processes, and how they share a training. Knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.core.errors import RecipeError

Wrapper = Literal["single", "ddp", "fsdp", "deepspeed"]
_WRAPPERS: Mapping[str, Wrapper] = {
    "NO": "ddp", "MULTI_CPU": "ddp", "MULTI_GPU": "ddp", "FSDP": "fsdp", "DEEPSPEED": "deepspeed",
}  # fmt: skip


@dataclass(frozen=True)
class LaunchSettings:
    """A launch as the worker and the plan see it.

    Attributes:
        wrapper: how the processes share the training.
        processes: over all machines.
        config: an accelerate configuration file, or None.
        max_restarts: how often processes that died are started again.
        use_cpu: the file asks for CPUs.
        settings: the file's keys.
    """

    wrapper: Wrapper
    processes: int
    config: str | None = None
    max_restarts: int = 0
    use_cpu: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def machines(self) -> int:
        """How many hosts take part."""
        return int(self.settings.get("num_machines") or 1)

    @property
    def reshard_after_forward(self) -> bool:
        """FSDP: whether a layer's weights are given back between forward and backward."""
        fsdp = self.settings.get("fsdp_config") or {}
        return bool(fsdp.get("fsdp_reshard_after_forward", True))


def launch_settings(launch: Mapping[str, Any]) -> LaunchSettings:
    """Reads ``train.launch``, and the accelerate file that it names.

    Raises:
        RecipeError: no such file, or none that accelerate wrote.
    """
    processes, config = int(launch["num_processes"]), launch.get("config")
    restarts = int(launch.get("max_restarts", 0))
    if config is None:
        return LaunchSettings("ddp" if processes > 1 else "single", processes, None, restarts)
    try:
        settings = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        settings = None
    if not isinstance(settings, dict):
        raise RecipeError(f"train.launch.config: {config}: not an accelerate configuration")
    kind = str(settings.get("distributed_type", "NO"))
    if kind not in _WRAPPERS:
        raise RecipeError(
            f"train.launch.config: {config}: distributed_type {kind} is not offered; "
            f"use one of {', '.join(_WRAPPERS)}"
        )
    wrapper = _WRAPPERS[kind]
    fsdp = settings.get("fsdp_config") or {}
    if wrapper == "fsdp" and int(fsdp.get("fsdp_version", 1)) != 2:
        raise RecipeError(
            f"train.launch.config: {config}: fsdp_version {fsdp.get('fsdp_version', 1)}; "
            "gradus shards with FSDP2 only: set fsdp_version: 2"
        )
    if wrapper == "ddp" and processes == 1:
        wrapper = "single"
    return LaunchSettings(
        wrapper, processes, str(config), restarts, bool(settings.get("use_cpu")), settings
    )
