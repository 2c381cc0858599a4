"""What a launch is: how many processes, and how they share a training. Knows no torch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from pipeline.core.errors import RecipeError
from pipeline.core.recipe_tree import shown

Wrapper = Literal["single", "ddp", "fsdp", "deepspeed"]
_WRAPPERS: Mapping[str, Wrapper] = {
    "NO": "ddp", "MULTI_CPU": "ddp", "MULTI_GPU": "ddp", "FSDP": "fsdp", "DEEPSPEED": "deepspeed",
}  # fmt: skip
# YAML reads a bare NO as false.
_Word = Annotated[str, BeforeValidator(lambda word: "NO" if word is False else word)]
_Device = Literal["none", "cpu", "nvme"]


def own_config(wrapper: str) -> str:
    """The setting that names our file for ``wrapper``, its path as seen from here."""
    file = Path(__file__).parents[2] / "recipes" / "accelerate" / f"{wrapper}.yaml"
    # An installed package has no recipes beside it.
    name = shown(file) if file.exists() else f"recipes/accelerate/{wrapper}.yaml"
    return f"train.launch.config={name}"


def to_paste(*settings: str) -> str:
    """Settings as the words to add to a command."""
    return " ".join(f"--set {shlex.quote(setting)}" for setting in settings)


class _Fsdp(BaseModel):
    """What is read of ``fsdp_config``, and what is refused because the recipe says it."""

    fsdp_version: int = 1
    fsdp_reshard_after_forward: bool = True
    fsdp_offload_params: bool = False
    fsdp_activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _nothing_unread(self) -> _Fsdp:
        if self.fsdp_version != 2:
            raise ValueError(
                f"fsdp_version {self.fsdp_version}; gradus shards with FSDP2 only: "
                "set fsdp_version: 2"
            )
        if self.fsdp_offload_params:
            raise ValueError(
                "fsdp_offload_params: true is not offered; set it false, and a smaller "
                "train.micro_batch_size or train.method: lora in the recipe"
            )
        if self.fsdp_activation_checkpointing:
            raise ValueError(
                "fsdp_activation_checkpointing: true is the recipe's to say; set it false, and "
                "train.gradient_checkpointing: true in the recipe"
            )
        return self


class _DeepSpeed(BaseModel):
    """What is read of ``deepspeed_config``."""

    zero_stage: Literal[2, 3] = 2
    gradient_accumulation_steps: Literal[1, "auto"] = Field(
        1, description="The recipe's: global_batch_size and micro_batch_size"
    )
    offload_optimizer_device: _Device = "none"
    offload_param_device: _Device = "none"


class _LaunchFile(BaseModel):
    """What is read of an accelerate configuration; what only accelerate reads may stand there."""

    distributed_type: _Word = "NO"
    num_machines: int = Field(1, ge=1, le=1024)
    machine_rank: int = Field(0, ge=0)
    main_process_ip: str | None = Field(None, min_length=1)
    main_process_port: int | None = Field(None, ge=0, le=65535)
    use_cpu: bool = False
    mixed_precision: _Word | None = None
    fsdp_config: dict[str, Any] | None = None
    deepspeed_config: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _whole(self) -> _LaunchFile:
        if self.distributed_type not in _WRAPPERS:
            raise ValueError(
                f"distributed_type {self.distributed_type} is not offered; "
                f"use one of {', '.join(_WRAPPERS)}"
            )
        if self.machine_rank >= self.num_machines:
            raise ValueError(
                f"machine_rank {self.machine_rank} of {self.num_machines} machines: ranks count "
                f"from 0 to {self.num_machines - 1}; set it to this machine's"
            )
        if (self.mixed_precision or "no").lower() != "no":
            raise ValueError(
                f"mixed_precision: {self.mixed_precision} is the recipe's to say; set it to "
                '"no", and train.precision in the recipe'
            )
        return self


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

    @property
    def shards_weights(self) -> bool:
        """Whether a process holds its share of the weights only: ZeRO-2 leaves them whole."""
        deepspeed = self.settings.get("deepspeed_config") or {}
        zero3 = self.wrapper == "deepspeed" and deepspeed.get("zero_stage") == 3
        return self.wrapper == "fsdp" or zero3


def launch_settings(launch: Mapping[str, Any]) -> LaunchSettings:
    """Reads ``train.launch``, and the accelerate file that it names.

    Raises:
        RecipeError: no such file, or none that accelerate wrote.
    """
    processes, config = int(launch["num_processes"]), launch.get("config")
    restarts = int(launch.get("max_restarts", 0))
    if config is None:
        return LaunchSettings("ddp" if processes > 1 else "single", processes, None, restarts)
    place = f"train.launch.config: {config}"
    try:
        settings = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        settings = None
    if not isinstance(settings, dict):
        raise RecipeError(f"{place}: not an accelerate configuration")
    found: _LaunchFile = _read(_LaunchFile, settings, place)
    wrapper = _WRAPPERS[found.distributed_type]
    read = found.model_dump(exclude_none=True)
    for part, model in (("fsdp_config", _Fsdp), ("deepspeed_config", _DeepSpeed)):
        if part.startswith(wrapper):
            read[part] = _read(model, read.get(part, {}), place, f"{part}.").model_dump()
    if processes % found.num_machines:
        raise RecipeError(
            f"{place}: num_machines: {found.num_machines} machines cannot share {processes} "
            "processes evenly; train.launch.num_processes counts those of all machines"
        )
    if wrapper == "ddp" and processes == 1:
        wrapper = "single"
    return LaunchSettings(
        wrapper, processes, str(config), restarts, found.use_cpu, {**settings, **read}
    )


def _read(model: Any, tree: Mapping[str, Any], place: str, section: str = "") -> Any:
    """A part of the file, validated; one line on the first problem."""
    # None is what YAML makes of a key without a value: it says nothing.
    given = {str(name): value for name, value in tree.items() if value is not None}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        if not key:
            raise RecipeError(f"{place}: {problem['msg'].removeprefix('Value error, ')}") from None
        raise RecipeError(
            f"{place}: {section}{key}: {problem['msg']}, and it is {str(problem['input'])[:60]!r}; "
            "change it"
        ) from None
