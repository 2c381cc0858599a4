"""The loss of single rows, by which a model gives away what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.batching import batches
from eval.generation import context_of
from eval.likelihood import supervised_losses, text_losses
from eval.loaded import question_ids
from pipeline.core.errors import ModelError

TOLD_BY = {
    "text": "mean loss of a row's tokens",
    "sft": "mean loss of the answer's tokens",
    "channel": "mean loss of the text's tokens",
    "classify": "loss of the row's label",
}
"""Render to what the loss of one of its rows is; others are not offered."""


def row_losses(
    model: Any, rows: Sequence[Mapping[str, Any]], render: str, *, head: Path, batch_size: int,
    pad_id: int,
) -> list[float]:  # fmt: skip
    """One loss in nats for each prepared row.

    Args:
        model: a transformers model as served.
        render: one of TOLD_BY.
        head: the folder of the head, with ``classify``.

    Raises:
        ModelError: another render, or a label that the head does not have.
    """
    if render not in TOLD_BY:
        raise ModelError(f"losses of rows: {render} rows have none here; offered: {list(TOLD_BY)}")
    if render == "classify":
        return _label_losses(model, rows, head, batch_size, pad_id)
    if render == "text":
        limit = context_of(model) or 512
        found = text_losses(
            model, rows, batch_size=batch_size, max_length=min(limit, 512), pad_id=pad_id
        )
    else:
        found = supervised_losses(model, rows, batch_size=batch_size, pad_id=pad_id)
    return [loss.nll_sum / max(loss.tokens, 1) for loss in found]


def _label_losses(
    model: Any, rows: Sequence[Mapping[str, Any]], head: Path, batch_size: int, pad_id: int
) -> list[float]:
    import torch
    from torch.nn.functional import cross_entropy

    from eval.batching import device_of, padded
    from pipeline.modeling.heads import load_classifier

    device = device_of(model)
    classifier = load_classifier(model, head).to(device).eval()
    number = {label: index for index, label in enumerate(classifier.config.labels)}
    if classifier.config.kind != "single":
        raise ModelError("losses of rows: the head gives several labels, tags or numbers")
    scale = classifier.config.features
    asked = [question_ids(row) for row in rows]
    losses = [0.0] * len(rows)
    with torch.inference_mode():
        for batch in batches([len(ids) for ids in asked], batch_size):
            inputs = list(padded([asked[i] for i in batch], pad_id, left=False, device=device))
            if scale is not None:
                own = scale.scaled([rows[index]["features"] for index in batch])
                inputs.append(own.to(device))
            logits = classifier(*inputs)
            gold = torch.tensor([number[rows[i]["label"]] for i in batch], device=device)
            for index, loss in zip(batch, cross_entropy(logits, gold, reduction="none"),
                                   strict=True):  # fmt: skip
                losses[index] = float(loss)
    return losses
