"""bundle.json's words on how a bundle is served: a recipe's `serve`, over what the base says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.context_length import DEFAULT_LENGTH, require_room, room_of
from pipeline.core.generation_config import sampling_over
from pipeline.core.schema_serve import Sampling


def serving_words(config: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Length, sampling, ends and engine arguments.

    Args:
        config: of the stage: ``max_model_len`` (None: the default), ``sampling``, ``stop``,
            ``stop_token_ids`` and ``engine``, as the recipe states them.
        base: the folder of what the engine loads.

    Raises:
        ModelError: the base has less room, or its generation_config.json is none.
    """
    length = config["max_model_len"]
    require_room(base, length)
    if length is None:
        room = room_of(base)
        length = DEFAULT_LENGTH if room is None else min(DEFAULT_LENGTH, room.tokens)
    return {
        "max_model_len": length,
        "sampling": sampling_over(base, Sampling.model_validate(config["sampling"])).stated(),
        "stop": list(config["stop"]),
        "stop_token_ids": list(config["stop_token_ids"]),
        "engine": dict(config["engine"]),
    }
