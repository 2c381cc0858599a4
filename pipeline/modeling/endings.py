"""The ids at which a model's answer ends, by what its folder or its configuration says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core.model_config import read_config


def ends(told: int | Sequence[int] | None, tokenizer: Any) -> list[int]:
    """The ids that a model's configuration names as its end, and the tokenizer's own, sorted."""
    named = list(told) if isinstance(told, Sequence) else [told]
    return sorted({i for i in [*named, tokenizer.eos_token_id] if i is not None})


def ends_in(folder: Path, tokenizer: Any) -> list[int]:
    """The ids at which a model's answer ends, as its folder tells: it is not loaded."""
    told: dict[str, Any] = read_config(folder)
    settings = folder / "generation_config.json"
    if settings.is_file():
        told = {**told, **json.loads(settings.read_text(encoding="utf-8"))}
    return ends(told.get("eos_token_id"), tokenizer)
