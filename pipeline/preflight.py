"""What can be said before anything runs: hardware, ranks, memory of an adapter slot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import RecipeError

ENGINE_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def engine_rank(rank: int) -> int | None:
    """The rank that vLLM's slots are rounded up to; None above its largest."""
    return next((size for size in ENGINE_RANKS if size >= rank), None)


def gpu_count() -> int:
    """NVIDIA devices of this machine, without importing torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def launch_problem(launch: Mapping[str, Any]) -> str | None:
    """Why a launch cannot run here, or None."""
    config = launch["config"]
    if config is None:
        return None
    try:
        settings = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        settings = None
    if not isinstance(settings, dict):
        raise RecipeError(f"train.launch.config: {config}: not an accelerate configuration")
    if settings.get("use_cpu"):
        return None
    wanted, found = launch["num_processes"], gpu_count()
    if found >= wanted:
        return None
    return f"needs {wanted} GPUs, and this machine has {found}"


def slot_bytes(config: Mapping[str, Any], rank: int, bytes_per_value: int = 2) -> int:
    """Memory of one adapter slot over all linear layers of a Llama-shaped decoder.

    Args:
        config: the base's config.json.
        rank: the engine's (rounded) rank.
        bytes_per_value: 2 for bf16.
    """
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    kv = config.get("num_key_value_heads", heads) * head_dim
    inner = config["intermediate_size"]
    shapes = [
        (hidden, heads * head_dim), (hidden, kv), (hidden, kv), (heads * head_dim, hidden),
        (hidden, inner), (hidden, inner), (inner, hidden),
    ]  # fmt: skip
    return int(layers * sum(rank * (i + o) for i, o in shapes) * bytes_per_value)
