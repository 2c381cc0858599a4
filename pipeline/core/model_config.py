"""A model's config.json, read or made; knows no torch, so that a plan can ask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import ModelError


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of the model in ``folder``.

    Raises:
        ModelError: there is none, or it is none.
    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); point base at a model") from None
    if not isinstance(config, dict):
        raise ModelError(f"{file}: holds no settings of a model; point base at a model")
    return config


def scratch_config(shape: Mapping[str, Any]) -> dict[str, Any]:
    """What the stage `scratch` makes of a recipe's shape: a Qwen3.

    Args:
        shape: of the recipe; the stage's vocabulary may come out smaller than it says.
    """
    names = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "intermediate_size", "max_position_embeddings",
    )  # fmt: skip
    return {
        **{name: shape[name] for name in names},
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "head_dim": shape["hidden_size"] // shape["num_attention_heads"],
        "tie_word_embeddings": True,
    }
