"""How many tokens a base has room for: what vLLM derives from its config.json.

As `_get_and_verify_max_len` of vllm/config/model.py (0.32) for an engine that writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.errors import ModelError
from pipeline.core.model_config import read_config

DEFAULT_LENGTH = 1024
"""Of a recipe that says none, where the base has room for it."""

# Where models say it; the smallest counts.
_KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
    "max_target_positions", "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
# Rope types whose `factor` is in the stated length already, or never extends it.
_SCALED = frozenset({
    "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling",
})  # fmt: skip


class Room(NamedTuple):
    """The longest context of a base, and what says so."""

    tokens: int
    why: str


def context_length(config: Mapping[str, Any]) -> Room | None:
    """What a base's config.json leaves room for; None where it does not say."""
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    stated = {key: text[key] for key in _KEYS if _is_number(text.get(key))}
    if not stated:
        return None
    # Command-R's own key counts above all others.
    key = (
        "model_max_length"
        if stated.get("model_max_length")
        else min(stated, key=stated.__getitem__)
    )
    length, why = stated[key], f"{key} {stated[key]}"
    factor = _factor(config)
    if factor != 1:
        length, why = length * factor, f"{why} times rope factor {factor:g}"
    longer = config.get("model_max_length")
    if _is_number(longer) and longer > length:
        length, why = longer, f"model_max_length {longer}"
    return Room(int(length), why)


def room_of(base: Path) -> Room | None:
    """``context_length`` of a base's folder.

    Raises:
        ModelError: its config.json cannot be read.
    """
    return context_length(read_config(base))


def too_long(room: Room | None, length: int | None) -> str | None:
    """What is wrong with serving so many tokens of a base, and the remedy; None: nothing."""
    if room is None or length is None or length <= room.tokens:
        return None
    return (
        f"{length} tokens, and the base has room for {room.tokens} ({room.why}), where its engine "
        f"would not start; set {room.tokens} at most, or leave it out"
    )


def require_room(base: Path, length: int | None) -> None:
    """Passes where an engine of this base can be asked for so many tokens.

    Raises:
        ModelError: it could not.
    """
    problem = None if length is None else too_long(room_of(base), length)
    if problem is not None:
        raise ModelError(f"serve.max_model_len: {problem}")


def _factor(config: Mapping[str, Any]) -> float:
    """By how much rope scaling extends the stated length."""
    factor = 1.0
    if "gemma3" in str(config.get("model_type")):
        # Its stated length is scaled.
        return factor
    for rope in _ropes(config):
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind not in _SCALED and _is_number(rope.get("factor")):
            factor = float(rope["factor"])
    return factor


def _ropes(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Of all layers, or one of each type of them; by its older name too."""
    told = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(told, dict):
        return
    nested = [each for each in told.values() if isinstance(each, dict)]
    yield from nested if len(nested) == len(told) else [told]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
