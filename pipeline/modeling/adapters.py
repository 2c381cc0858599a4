"""LoRA adapters: made with PEFT, stacked into one over the root, merged into full weights.

A stacked adapter is in canonical form: one rank for every module, ``lora_alpha == r`` (scale
1), so that any reader of PEFT's format, the engine included, adds exactly B @ A.
Source: Hu et al. 2021, LoRA, equation 3; the sum of two updates is B1 A1 + B2 A2 =
[B1 B2] [A1; A2].
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import ModelError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."


def lora_config(settings: Mapping[str, Any], *, encoder: bool) -> Any:
    """PEFT's LoraConfig from a recipe's training settings."""
    from peft import LoraConfig

    targets = settings["target_modules"]
    return LoraConfig(
        r=settings["lora_r"],
        lora_alpha=settings["lora_alpha"] or 2 * settings["lora_r"],
        lora_dropout=settings["lora_dropout"],
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=settings["use_rslora"],
        rank_pattern=dict(settings["rank_pattern"]),
        # The language-model head of an encoder takes no part in its sentence vectors.
        exclude_modules=r"(cls|lm_head|vocab_projector|predictions)\b.*" if encoder else None,
        bias="none",
    )


def add_lora(model: Any, settings: Mapping[str, Any], *, seed: int, encoder: bool) -> Any:
    """Wraps ``model`` with a fresh adapter; B starts at zero, A is drawn from ``seed``.

    Raises:
        ModelError: target modules that the model does not have.
    """
    import torch
    from peft import get_peft_model

    torch.manual_seed(seed)
    try:
        return get_peft_model(model, lora_config(settings, encoder=encoder))
    except ValueError as error:
        raise ModelError(
            f"train.target_modules: {settings['target_modules']}: "
            f"{str(error).splitlines()[0][:160]}; use all-linear or names of linear layers"
        ) from None


def write_adapter(out: Path, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Writes an adapter folder in PEFT's format: the same tensors, the same bytes."""
    from safetensors.torch import save_file

    ordered = {name: tensors[name].detach().contiguous().cpu() for name in sorted(tensors)}
    save_file(ordered, str(out / WEIGHTS), metadata={"format": "pt"})
    text = json.dumps(config, indent=1, sort_keys=True, default=_plain)
    (out / CONFIG).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, config) of an adapter folder."""
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return load_file(str(folder / WEIGHTS)), config
    except OSError as error:
        raise ModelError(f"{folder}: no adapter that can be read ({error})") from None


def factors(tensors: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Module name to (A [r, in], B [out, r]) in float32, the scale folded into B.

    Handles rsLoRA and rank and alpha patterns as PEFT itself resolves them.

    Raises:
        ModelError: an adapter of a kind that is no sum of low-rank updates (DoRA, bias).
    """
    from peft.utils.other import get_pattern_key

    if config.get("use_dora") or config.get("bias", "none") != "none":
        raise ModelError("adapter: DoRA and bias cannot be stacked; train with plain LoRA")
    found: dict[str, tuple[Any, Any]] = {}
    for name, a in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        b = tensors[name.replace(".lora_A.", ".lora_B.")]
        ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
        rank = int(ranks.get(get_pattern_key(list(ranks), module), config["r"]))
        alpha = float(alphas.get(get_pattern_key(list(alphas), module), config["lora_alpha"]))
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        if a.shape[0] != rank:
            raise ModelError(f"adapter: {module} has rank {a.shape[0]}, its config says {rank}")
        found[module] = (a.float(), b.float() * scale)
    return found


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
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = a
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = b
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


def updates(folder: Path) -> Iterator[tuple[str, Any]]:
    """(module name, B @ A in float32) of an adapter folder."""
    tensors, config = read_adapter(folder)
    for module, (a, b) in factors(tensors, config).items():
        yield module, b @ a


def merge_into(model: Any, adapter: Path) -> None:
    """Adds an adapter's update to the weights of a float32 model, in place.

    Raises:
        ModelError: weights that are not float32 (rounding would eat the update), or modules
            that the model does not have.
    """
    import torch

    modules = dict(model.named_modules())
    with torch.no_grad():
        for name, update in updates(adapter):
            module = modules.get(name)
            if module is None:
                raise ModelError(f"{adapter}: {name} is not in the base; it is of another model")
            if module.weight.dtype != torch.float32:
                raise ModelError(f"{name}: {module.weight.dtype}; merge needs float32 weights")
            if module.weight.shape != update.shape:
                raise ModelError(
                    f"{adapter}: {name} is {tuple(update.shape)}, "
                    f"the base's {tuple(module.weight.shape)}; it is of another model"
                )
            module.weight += update


def attach_frozen(model: Any, adapter: Path) -> Any:
    """Puts a parent's adapter beside quantised or bf16 weights, frozen, under ``parent``."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter), adapter_name="parent", is_trainable=False)
