"""Optimisers by the names that users know, and their state by parameter name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from pipeline.core.errors import TrainingError
from pipeline.training.checkpoint import Saved, own_rows

_BITSANDBYTES = {
    "adamw_8bit": "AdamW8bit",
    "paged_adamw": "PagedAdamW32bit",
    "paged_adamw_8bit": "PagedAdamW8bit",
}
# What is new is the head's own; adapters and base weights share the other rate.
_HEAD = ".score."


def new_optimiser(
    trainable: Mapping[str, nn.Parameter], config: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), its 8-bit or its paged form, over all that is trained.

    Norms and biases do not decay. Each group keeps its peak rate under ``peak``.

    Raises:
        TrainingError: an 8-bit optimiser over sharded weights.
    """
    rate = config["learning_rate"]
    head_rate = config.get("head_learning_rate") or rate
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        decays = config["weight_decay"] if parameter.ndim > 1 else 0.0
        groups.setdefault((head_rate if _HEAD in name else rate, decays), []).append(parameter)
    listed = [
        {"params": found, "lr": lr, "peak": lr, "weight_decay": decays}
        for (lr, decays), found in groups.items()
    ]
    settings: dict[str, Any] = {
        "betas": (config["adam_beta1"], config["adam_beta2"]),
        "eps": config["adam_epsilon"],
    }
    kind = config["optim"]
    if kind == "adamw":
        return torch.optim.AdamW(listed, fused=True, **settings)
    if any(isinstance(p, DTensor) for p in trainable.values()):
        raise TrainingError(
            f"train.optim: {kind}: bitsandbytes does not know sharded weights; use adamw with FSDP"
        )
    import bitsandbytes

    made: torch.optim.Optimizer = getattr(bitsandbytes.optim, _BITSANDBYTES[kind])(
        listed, **settings
    )
    return made


def optimiser_state(
    optimizer: torch.optim.Optimizer, trainable: Mapping[str, nn.Parameter]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, other values) of the state, named ``KEY.PARAMETER``."""
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, Any] = {}
    for name, parameter in trainable.items():
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, torch.Tensor):
                tensors[f"{key}.{name}"] = value
            else:
                values[f"{key}.{name}"] = value
    return tensors, values


def restore_optimiser(
    optimizer: torch.optim.Optimizer, trainable: Mapping[str, nn.Parameter], saved: Saved
) -> None:
    """Puts a saved state back, each process its own share."""
    found: dict[str, dict[str, Any]] = {name: {} for name in trainable}
    for full in saved.names("optimizer."):
        key, _, name = full.partition(".")
        like = trainable[name]
        if tuple(saved.shapes[f"optimizer.{full}"]) == tuple(like.shape) and like.ndim:
            found[name][key] = read_like(saved, f"optimizer.{full}", like)
        else:
            tensor = saved.tensor(f"optimizer.{full}")
            # torch keeps the count of updates on the CPU unless the update is fused on a GPU.
            found[name][key] = tensor.to(like.device)
    for full, value in saved.values.get("optimizer", {}).items():
        key, _, name = full.partition(".")
        found[name][key] = value
    for name, parameter in trainable.items():
        optimizer.state[parameter] = found[name]


def read_like(saved: Saved, name: str, like: torch.Tensor) -> torch.Tensor:
    """A saved tensor on the device, and in the shards, of another one."""
    if not isinstance(like, DTensor):
        return saved.tensor(name).to(like.device)
    local, first = own_rows(like)
    mine = saved.tensor(name, first, local.shape[0]).to(local.device)
    return DTensor.from_local(
        mine, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
