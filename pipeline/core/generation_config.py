"""What a base's generation_config.json says of how its answers are drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.core.errors import ModelError
from pipeline.core.schema_serve import Sampling

GENERATION_FILE = "generation_config.json"
# As vLLM takes them (ModelConfig.get_diff_sampling_param, 0.32); it looks at no do_sample.
_TAKEN = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty",
)  # fmt: skip


def sampling_of(base: Path) -> Sampling:
    """The sampling that a base's publisher set.

    Args:
        base: its folder; without the file nothing is said.

    Raises:
        ModelError: the file is torn, or says what no request may.
    """
    place = base / GENERATION_FILE
    if not place.is_file():
        return Sampling()
    try:
        tree = json.loads(place.read_text(encoding="utf-8"))
        told: dict[str, Any] = {key: tree.get(key) for key in _TAKEN}
        told["max_tokens"] = tree.get("max_new_tokens")
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise ModelError(f"{place}: cannot be read ({error}); fetch the base again") from None
    try:
        return Sampling.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        raise ModelError(
            f"{place}: {key}: {told.get(key)!r}: {first['msg'].lower()}; mend that file of the base"
        ) from None


def sampling_over(base: Path, own: Sampling) -> Sampling:
    """What is served: the recipe's own words over those of the base.

    Raises:
        ModelError: as ``sampling_of``.
    """
    return sampling_of(base).model_copy(update=own.stated())
