"""Rows to token ids, once: through the tokenizer's own chat template, never from text again."""

from pipeline.data.rendering.assembly import Rendered
from pipeline.data.rendering.kept import own_template, renderer_of, tokenizer_of
from pipeline.data.rendering.probing import controls_of, fixed_kwargs, thinks, without_thought
from pipeline.data.rendering.renderer import Renderer

__all__ = [
    "Rendered",
    "Renderer",
    "controls_of",
    "fixed_kwargs",
    "own_template",
    "renderer_of",
    "thinks",
    "tokenizer_of",
    "without_thought",
]
