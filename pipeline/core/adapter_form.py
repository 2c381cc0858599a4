"""The form of a LoRA adapter: what must agree for one to be trained on as another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# PEFT's key to the recipe's, and what it means where a config lacks it or says null.
_OF_PEFT: Mapping[str, tuple[str, Any]] = {
    "r": ("lora_r", 0), "lora_alpha": ("lora_alpha", 0), "use_rslora": ("use_rslora", False),
    "use_dora": ("use_dora", False), "rank_pattern": ("rank_pattern", {}),
    "alpha_pattern": ("alpha_pattern", {}),
}  # fmt: skip
_NAMES = ("target_modules", "modules_to_save")


def resolved_alpha(settings: Mapping[str, Any]) -> float:
    """The scale's numerator, also where the recipe leaves it to the rank."""
    alpha: float = settings["lora_alpha"] or 2 * settings["lora_r"]
    return alpha


def form_of_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a recipe's `train`: its keys, with what stands for a default and no order of names."""
    keys = (name for name, _ in _OF_PEFT.values())
    found = {key: settings[key] for key in ("method", *keys)}
    found["lora_alpha"] = float(resolved_alpha(settings))
    for key in _NAMES:
        names = settings[key]
        found[key] = names if isinstance(names, str) else sorted(names)
    return found


def form_of_adapter(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of an adapter_config.json, under the recipe's keys.

    Without the modules: PEFT writes names where all-linear was asked for.
    """
    return {ours: config.get(key) or nothing for key, (ours, nothing) in _OF_PEFT.items()}


def form_problem(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str | None:
    """Why an adapter of one form cannot be trained on as one of another, or None.

    Args:
        theirs, mine: forms; what only one of them tells is not compared.
    """
    for key, value in theirs.items():
        if key in mine and mine[key] != value:
            return (
                f"its {key} is {_shown(value)}, and here it is {_shown(mine[key])}; "
                f"set train.{key}: {_shown(value)}"
            )
    return None


def _shown(value: Any) -> str:
    # JSON is YAML: what is shown can be typed.
    return json.dumps(value, sort_keys=True)
