"""Stages `export` and `merge`: one adapter over the root, or full weights."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.modeling.adapter_files import factors, read_adapter, write_adapter
from pipeline.modeling.adapters import attach_frozen, merge_into
from pipeline.modeling.heads import HEAD_CONFIG, HEAD_WEIGHTS
from pipeline.modeling.loading import (
    kind_of_folder,
    load_model,
    load_tokenizer,
    on_device,
    save_model,
)
from pipeline.modeling.stacking import canonical, stack
from pipeline.stages.golden import (
    Answers,
    answers,
    checked,
    golden_rows,
    numerics,
)


class Export:
    """Stacks a trained adapter on its parent's: one adapter over the root, scale 1."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root (Model), own (Adapter), data (Dataset), parent (stacked, optional).

        Raises:
            IntegrityError: the stacked adapter does not answer as what was trained.
        """
        parts = _parts(inputs)
        joined, rank = stack([factors(*read_adapter(folder)) for folder in parts.values()])
        root, own = inputs["root"].path, inputs["own"].path
        causal = kind_of_folder(root) == "causal"
        tensors, plain = canonical(joined, rank, "CAUSAL_LM" if causal else None)
        write_adapter(context.out, tensors, plain)
        _copy_head(own, context.out)
        rows = golden_rows(inputs["data"].path)
        model = on_device(load_model(root))
        base = answers(model, rows, causal=causal, head=own)
        body = _side_by_side(model, parts)
        trained = answers(body, rows, causal=causal, head=own)
        body = attach_frozen(body, context.out, "exported")
        body.base_model.set_adapter(["exported"], inference_mode=True)
        served = answers(body, rows, causal=causal, head=context.out)
        # Before the next model is loaded: two of them may not fit.
        del model, body
        return {
            "rank": rank,
            "modules": len(joined),
            "parts": len(parts),
            "golden": checked(rows, trained, served, base, "the stacked adapter"),
            "numerics": numerics(root, parts, rows, served, config),
        }


class Merge:
    """Full weights: a trained adapter, and its parent's, added to the root's in float32."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root, own, data, parent (optional); adapter (stacked) where it could be.

        Raises:
            IntegrityError: the merged weights do not answer as what was trained.
        """
        root, own = inputs["root"].path, inputs["own"].path
        parts, rows = _parts(inputs), golden_rows(inputs["data"].path)
        causal = kind_of_folder(root) == "causal"
        # A vocabulary head that an encoder lacks is drawn: the same one each time.
        torch.manual_seed(0)
        # Merge in float32: rounding inside 4-bit or bf16 weights would eat the update.
        model = on_device(load_model(root))
        base = answers(model, rows, causal=causal, head=own)
        if "adapter" in inputs:
            body = _side_by_side(model, parts)
            trained = answers(body, rows, causal=causal, head=own)
            model = body.unload()
            merge_into(model, inputs["adapter"].path)
        else:
            body = _over_merged_parent(model, parts)
            trained = answers(body, rows, causal=causal, head=own)
            model = _merged_by_peft(body)
        save_model(model, load_tokenizer(root), context.out)
        _copy_head(own, context.out)
        del model, body
        merged = on_device(load_model(context.out))
        found = answers(merged, rows, causal=causal, head=context.out)
        del merged
        _forget_random_logits(trained, found)
        return {
            "dtype": "float32",
            "golden": checked(rows, trained, found, base, "the merged model"),
            "numerics": numerics(root, parts, rows, found, config),
        }


def _parts(inputs: Mapping[str, Artifact]) -> dict[str, Path]:
    return {role: inputs[role].path for role in ("parent", "own") if role in inputs}


def _copy_head(own: Path, out: Path) -> None:
    for name in (HEAD_WEIGHTS, HEAD_CONFIG):
        if (own / name).is_file():
            shutil.copyfile(own / name, out / name)


def _side_by_side(model: Any, parts: Mapping[str, Path]) -> Any:
    """Each adapter in PEFT's own layers, as training had them, all active."""
    for name, folder in parts.items():
        model = attach_frozen(model, folder, name)
    return model


def _over_merged_parent(model: Any, parts: Mapping[str, Path]) -> Any:
    """The own adapter over the parent's merged weights.

    DoRA's magnitudes are of the weights that it was trained over, the parent's update included.
    """
    if "parent" in parts:
        merge_into(model, parts["parent"])
    return attach_frozen(model, parts["own"], "own")


def _merged_by_peft(body: Any) -> Any:
    with warnings.catch_warnings():
        # Two matrices from one, where only one end was trained: PEFT writes it into the config.
        warnings.filterwarnings("ignore", ".*no longer tied.*")
        return body.merge_and_unload()


def _forget_random_logits(trained: Answers, found: Answers) -> None:
    """A vocabulary head that nobody trained is drawn anew with each load."""
    for name in set(trained.values) ^ set(found.values):
        trained.values.pop(name, None)
        found.values.pop(name, None)
