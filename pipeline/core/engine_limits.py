"""The inference engine that adapters are made for: its version, and what its slots hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENGINE_VERSION = "0.32.0"
"""Of vLLM, as both lock files of the engine have it."""

ENGINE = f"vLLM {ENGINE_VERSION}"

ENGINE_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of its adapter slots."""

TOOL_PARSERS = frozenset({
    "apertus", "cohere_command3", "cohere_command4", "deepseek_v3", "deepseek_v31",
    "deepseek_v32", "deepseek_v4", "deepseek_v41", "dots", "ernie45", "functiongemma",
    "gemma4", "gigachat3", "glm45", "glm47", "granite", "granite-20b-fc", "granite4",
    "hermes", "hf", "hunyuan_a13b", "hy_v3", "hy_v4", "inkling", "internlm", "jamba",
    "k2_horizon", "kimi_k2", "kimi_k3", "lfm2", "ling3", "llama3_json", "llama4_json",
    "llama4_pythonic", "longcat", "mimo", "minicpm5", "minimax_m2", "minimax_m3", "mistral",
    "muse_glimmer", "olmo3", "openai", "phi4_mini_json", "plamo3", "poolside_v1",
    "pythonic", "qwen3_coder", "qwen3_json", "qwen3_xml", "seed_oss", "step3", "step3p5",
    "xlam",
})  # fmt: skip
"""Names of its `--tool-call-parser`; a test compares them with the installed one."""

REASONING_PARSERS = frozenset({
    "cohere_command3", "cohere_command4", "deepseek_r1", "deepseek_v3", "deepseek_v4",
    "deepseek_v41", "ernie45", "gemma4", "glm45", "glm47", "granite",
    "granite_thinking_parser", "hf", "holo2", "hunyuan_a13b", "hy_v3", "hy_v4", "inkling",
    "k2_horizon", "kimi_k2", "kimi_k3", "ling3", "mimo", "minicpmv", "minimax_m2",
    "minimax_m2_append_think", "minimax_m3", "mistral", "muse_glimmer", "nemotron_v3",
    "olmo3", "openai_gptoss", "plamo3", "poolside_v1", "qwen3", "seed_oss", "step3",
    "step3p5",
})  # fmt: skip
"""Names of its `--reasoning-parser`."""


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
