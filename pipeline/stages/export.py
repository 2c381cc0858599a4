"""Stages `export` and `merge`: one adapter over the root, or full weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.modeling.adapters import (
    canonical,
    factors,
    merge_into,
    read_adapter,
    stack,
    write_adapter,
)
from pipeline.modeling.heads import HEAD_CONFIG, HEAD_WEIGHTS
from pipeline.modeling.loading import load_model, load_tokenizer, model_kind, save_model


class Export:
    """Stacks a trained adapter on its parent's: one adapter over the root, scale 1."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root (Model), own (Adapter), parent (stacked Adapter, optional)."""
        order = [inputs[role] for role in ("parent", "own") if role in inputs]
        parts = [factors(*read_adapter(artifact.path)) for artifact in order]
        joined, rank = stack(parts)
        causal = model_kind(inputs["root"].path) == "causal"
        tensors, plain = canonical(joined, rank, "CAUSAL_LM" if causal else None)
        write_adapter(context.out, tensors, plain)
        for name in (HEAD_WEIGHTS, HEAD_CONFIG):
            head = inputs["own"].path / name
            if head.is_file():
                shutil.copyfile(head, context.out / name)
        return {"rank": rank, "modules": len(joined), "parts": len(parts)}


class Merge:
    """Adds a stacked adapter to the root's weights, in float32."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root (Model), adapter (stacked Adapter)."""
        root = inputs["root"].path
        # Merge in float32: rounding inside 4-bit or bf16 weights would eat the update.
        model = load_model(root)
        merge_into(model, inputs["adapter"].path)
        save_model(model, load_tokenizer(root), context.out)
        for name in (HEAD_WEIGHTS, HEAD_CONFIG):
            head = inputs["adapter"].path / name
            if head.is_file():
                shutil.copyfile(head, context.out / name)
        return {"dtype": "float32"}
