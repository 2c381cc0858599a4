"""Several adapters as one over the root.

A stacked adapter is in canonical form: one rank for every module, ``lora_alpha == r`` (scale
1), so that any reader of PEFT's format, the engine included, adds exactly B @ A.
Source: Hu et al. 2021, LoRA, equation 3; the sum of two updates is B1 A1 + B2 A2 =
[B1 B2] [A1; A2].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.modeling.adapter_files import PREFIX


def stack(
    parts: Sequence[Mapping[str, tuple[Any, Any]]],
) -> tuple[dict[str, tuple[Any, Any]], int]:
    """One adapter whose update is the sum of the parts' updates.

    A's rows and B's columns are concatenated; modules that have fewer are filled with zeros
    up to the largest rank, which engines want uniform.

    Returns:
        (module to (A, B), rank).
    """
    import torch

    modules = sorted({module for part in parts for module in part})
    joined: dict[str, tuple[Any, Any]] = {}
    for module in modules:
        pairs = [part[module] for part in parts if module in part]
        joined[module] = (
            torch.cat([a for a, _ in pairs], dim=0),
            torch.cat([b for _, b in pairs], dim=1),
        )
    rank = max((a.shape[0] for a, _ in joined.values()), default=0)
    for module, (a, b) in joined.items():
        lack = rank - a.shape[0]
        if lack:
            a = torch.cat([a, a.new_zeros(lack, a.shape[1])], dim=0)
            b = torch.cat([b, b.new_zeros(b.shape[0], lack)], dim=1)
            joined[module] = (a, b)
    return joined, rank


def canonical(
    joined: Mapping[str, tuple[Any, Any]], rank: int, task_type: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and config of a stacked adapter in PEFT's format, scale 1."""
    tensors = {}
    for module, (a, b) in joined.items():
        tensors[f"{PREFIX}{module}.lora_A.weight"] = a
        tensors[f"{PREFIX}{module}.lora_B.weight"] = b
    config = {
        "base_model_name_or_path": None,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted(joined),
        "task_type": task_type,
        "use_rslora": False,
    }
    return tensors, config
