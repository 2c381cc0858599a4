"""Rows of the objectives beside sft, and what `prepare` made of them."""

from __future__ import annotations

import json
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.data.arrow import read_rows
from tests.data.preparing import TEXTS

PREFERENCE = {"format": "preference"}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def pairs(texts: list[str] = TEXTS) -> list[dict[str, Any]]:
    """TRL's conversational preference, with one and with two exchanges."""
    return [
        {
            "prompt": [user("one ship"), assistant("home"), user(text)] if n % 2 else [user(text)],
            "chosen": [assistant("sails at dawn")],
            "rejected": [assistant("alone" + " boat" * (n % 3))],
        }
        for n, text in enumerate(texts)
    ]


def classes(texts: list[str] = TEXTS) -> list[dict[str, Any]]:
    return [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(texts)]


def read(made: Artifact, split: str = "train") -> list[dict[str, Any]]:
    return read_rows(made.path / f"{split}.arrow")


def told(made: Artifact, name: str) -> Any:
    return json.loads((made.path / f"{name}.json").read_text())
