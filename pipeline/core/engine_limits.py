"""The inference engine that adapters are made for: its version, and what its slots hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENGINE_VERSION = "0.32.0"
"""Of vLLM, as both lock files of the engine have it."""

ENGINE = f"vLLM {ENGINE_VERSION}"

ENGINE_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of its adapter slots."""


def engine_rank(rank: int) -> int | None:
    """The rank that vLLM's slots are rounded up to; None above its largest."""
    return next((size for size in ENGINE_RANKS if size >= rank), None)


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
