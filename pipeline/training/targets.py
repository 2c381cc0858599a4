"""A global batch as tensors, and what its loss is divided by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pipeline.core.errors import TrainingError
from pipeline.training.batches import collate, row_weights
from pipeline.training.objectives import mask_tokens
from pipeline.training.trainee import Trainee, special_ids


def batch_of(
    rows: Sequence[Mapping[str, Any]], trainee: Trainee, config: Mapping[str, Any], step: int
) -> dict[str, torch.Tensor]:
    """The rows of update ``step`` with all that the objective needs.

    Args:
        rows: of a Dataset; padded to the longest.
        trainee: whose tokenizer, labels and class weights count.
        config: the settings of `train`.
        step: masks are drawn from the seed and this number.
    """
    tokenizer = trainee.tokenizer
    batch = collate(rows, tokenizer.pad_token_id or 0)
    if config["objective"] == "classify":
        batch["labels"] = torch.tensor([trainee.labels.index(row["label"]) for row in rows])
        if trainee.class_weights is not None:
            batch["weights"] = trainee.class_weights[batch["labels"]]
        return batch
    if config["objective"] == "mlm":
        batch = mask_tokens(
            batch,
            special_ids=special_ids(tokenizer),
            mask_id=tokenizer.mask_token_id,
            vocab_size=len(tokenizer),
            probability=config["mlm_probability"],
            generator=torch.Generator().manual_seed(config["seed"] * 1_000_003 + step),
        )
    if config.get("loss_weighting", "token") == "row":
        batch["weights"] = row_weights(batch)
    return batch


def target_count(batch: Mapping[str, torch.Tensor]) -> float:
    """What the summed loss of a global batch is divided by: its targets, or their weights.

    Raises:
        TrainingError: nothing to learn from.
    """
    if "weights" in batch:
        count = float(batch["weights"].double().sum())
    elif "labels" in batch:
        count = len(batch["labels"])
    else:
        count = int((batch["chosen"] if "chosen" in batch else batch["supervised"]).sum())
    if count == 0:
        raise TrainingError(
            "train: an update without supervised tokens; check format and prompt of data.train"
        )
    return count
