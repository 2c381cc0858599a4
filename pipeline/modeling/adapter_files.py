"""Adapter folders in PEFT's format: written byte for byte, read with one line for what is wrong.

Source: Hu et al. 2021, LoRA, equation 3: the update of a module is scale B A.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import ModelError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PICKLED = "adapter_model.bin"
PREFIX = "base_model.model."
FACTOR = re.compile(r"\.lora_[AB]\.weight$")


def write_adapter(out: Path, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Writes an adapter folder in PEFT's format: the same tensors, the same bytes."""
    from safetensors.torch import save_file

    # A copy of each: tied modules share one storage, which safetensors refuses to write.
    ordered = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    save_file(ordered, str(out / WEIGHTS), metadata={"format": "pt"})
    text = json.dumps(config, indent=1, sort_keys=True, default=_plain)
    (out / CONFIG).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, config) of an adapter folder.

    Raises:
        ModelError: no adapter, a torn or pickled one, or one that is no LoRA.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if (folder / PICKLED).is_file() and not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"{folder}: {PICKLED} is pickled, which can run code; save it as {WEIGHTS}"
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(str(folder / WEIGHTS))
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder}: no adapter that can be read ({error})") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError(f"{folder / CONFIG}: not a LoRA adapter; gradus stacks LoRA alone")
    return tensors, config


def factors(tensors: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Module name to (A [r, in], B [out, r]) in float32, the scale folded into B.

    Handles rsLoRA and rank and alpha patterns as PEFT itself resolves them.

    Raises:
        ModelError: an adapter of a kind that is no sum of low-rank updates (DoRA, bias).
    """
    from peft.utils.other import get_pattern_key

    if config.get("use_dora") or config.get("bias", "none") != "none":
        raise ModelError("adapter: DoRA and bias cannot be stacked; set serve.export: merged")
    whole = [name for name in tensors if not FACTOR.search(name)]
    if whole:
        raise ModelError(
            f"adapter: {whole[0]} is no low-rank factor and cannot be stacked; take export merged"
        )
    found: dict[str, tuple[Any, Any]] = {}
    for name, a in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        b = tensors[name.replace(".lora_A.", ".lora_B.")]
        ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
        rank = int(ranks.get(get_pattern_key(list(ranks), module), config["r"]))
        alpha = float(alphas.get(get_pattern_key(list(alphas), module), config["lora_alpha"]))
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        if a.shape[0] != rank:
            raise ModelError(f"adapter: {module} has rank {a.shape[0]}, its config says {rank}")
        found[module] = (a.float(), b.float() * scale)
    return found
