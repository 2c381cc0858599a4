"""Rows, labels and a loaded model, for tests of asking which label a row has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.loaded import Loaded
from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.data.rendering import Renderer
from pipeline.data.rendering import renderer_of as kept
from pipeline.modeling.loading import load_tokenizer

LABELS = ["card", "card_arrival", "lost <|im_end|> pin", "转账", "转账 限额"]
SYSTEM = "Which matter is it?"


def rows_of(split: str, number: int) -> list[dict[str, Any]]:
    # Uneven, so that a prior of equal shares would be seen.
    return [
        {"text": f"{split} {n} sails at dawn" + " alone" * (n % 4),
         "label": LABELS[min(n % 7, len(LABELS) - 1)]}
        for n in range(number)
    ]  # fmt: skip


def loaded(base: Artifact, folder: Path, batch_size: int = 4) -> Loaded:
    context = StageContext(folder, folder, {"batch_size": batch_size}, {}, lambda _event: None)
    return Loaded(base, None, {"answer_after": None, "max_new_tokens": 24}, context)


def renderer_of(base: Artifact, data: Path) -> Renderer:
    return kept(data, load_tokenizer(base.path), causal=True)


def learned(row: Any, stop: int) -> tuple[int, ...]:
    ids = [i for i, on in zip(row["input_ids"], row["supervised"], strict=True) if on]
    return tuple(ids[: ids.index(stop) + 1])
