"""What can be said before anything runs: whether this machine has what a training asks for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pipeline.core.gpus import gpu_count
from pipeline.core.launch import launch_settings, own_config, to_paste
from pipeline.core.objectives import cell_problem
from pipeline.core.schema_train import Train
from pipeline.core.tracking import missing_tracker


def launch_problem(launch: Mapping[str, Any]) -> str | None:
    """Why a launch cannot run here, or None.

    Raises:
        RecipeError: a configuration file that is none.
    """
    settings = launch_settings(launch)
    if settings.wrapper == "deepspeed" and find_spec("deepspeed") is None:
        return (
            "train.launch.config: deepspeed is not installed; `pip install deepspeed`, or use "
            f"{to_paste(own_config('fsdp'))}"
        )
    wanted, found = settings.processes // settings.machines, gpu_count()
    # Without any GPU plain processes meet on CPUs; a file says whether they should.
    if settings.use_cpu or found >= wanted or (settings.config is None and found == 0):
        return None
    return (
        f"needs {wanted} GPUs, and this machine has {found}; set train.launch.num_processes: "
        f"{max(1, found) * settings.machines}, or name a config with use_cpu: true"
    )


def machine_problem(train: Train) -> str | None:
    """What a training asks for that this machine does not have, or None.

    8-bit optimisers are no matter of hardware: bitsandbytes 0.50.2 runs AdamW8bit on CPUs. Paged
    ones it does not page there, with a warning that nobody would see.
    """
    if train.optim != "adamw" and find_spec("bitsandbytes") is None:
        return (
            f"train.optim: {train.optim}: bitsandbytes is not installed; "
            "`pip install bitsandbytes`, or use adamw"
        )
    if train.optim.startswith("paged") and gpu_count() == 0:
        return (
            f"train.optim: {train.optim} moves its state between GPU and main memory, and this "
            f"machine has no GPU; use {train.optim.removeprefix('paged_')}"
        )
    if train.attention == "flash_attention_2" and find_spec("flash_attn") is None:
        return (
            "train.attention: flash_attention_2: flash_attn is not installed; "
            "`pip install flash-attn`, or use attention: auto"
        )
    if train.attention == "flex_attention" and gpu_count() == 0:
        return (
            "train.attention: flex_attention has no backward pass on a CPU, and this machine has "
            "no GPU; use attention: auto"
        )
    return missing_tracker(train.report_to)


def cell_refusal(train: Train, objective: str, launch: Mapping[str, Any]) -> str | None:
    """Why objective, method, optimiser and processes do not go together, or None."""
    wrapper = launch_settings(launch).wrapper
    if wrapper in {"fsdp", "deepspeed"} and train.optim != "adamw":
        return (
            f"train.optim: {train.optim}: bitsandbytes does not know sharded weights; "
            f"use adamw with {wrapper}"
        )
    return cell_problem(objective, train.method, wrapper)
