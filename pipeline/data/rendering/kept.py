"""How a Dataset was rendered, kept beside its rows and read again by whoever asks them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.controls import Controls
from pipeline.data.rendering.renderer import Renderer

TEMPLATE = "chat_template.jinja"
"""The recipe's own chat template, in a Dataset that was rendered by one."""


def own_template(data: Path) -> Path | None:
    """The chat template that the recipe brought; None where the tokenizer's own was taken."""
    path = data / TEMPLATE
    return path if path.is_file() else None


def tokenizer_of(data: Path, tokenizer: Any) -> Any:
    """The tokenizer with the template by which the Dataset was rendered.

    What was handed in stays as it is: the next Dataset may have been rendered by another.
    """
    path = own_template(data)
    if path is None:
        return tokenizer
    told = copy.copy(tokenizer)
    told.chat_template = path.read_text(encoding="utf-8")
    return told


def renderer_of(data: Path, tokenizer: Any, *, causal: bool) -> Renderer:
    """The renderer by which the rows of a Dataset were prepared.

    Args:
        data: the Dataset's folder.
        tokenizer: of the model that it was prepared for.
        causal: whether that model writes.
    """
    render: Mapping[str, Any] = json.loads((data / "render.json").read_text(encoding="utf-8"))
    return Renderer(
        tokenizer_of(data, tokenizer),
        causal=causal,
        system=render["system"],
        template_kwargs=render["chat_template_kwargs"],
        controls=Controls.from_json(render["controls"]),
    )
