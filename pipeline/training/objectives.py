"""What is minimised: summed loss and how many targets it sums over, for each objective.

Where a batch has ``weights`` (of tokens, or of a classifier's rows), the loss is the weighted
sum and the count the sum of the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from pipeline.core.errors import DataError
from pipeline.modeling.loading import backbone, plain_model
from pipeline.modeling.packing_probe import packed_inputs

Batch = Mapping[str, torch.Tensor]
# The vocabulary heads of BERT's and RoBERTa's families; others project every token.
_MASK_HEADS = ("cls", "lm_head")
_SCALED_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")


class TokenModel(nn.Module):
    """Next-token loss over supervised tokens; the vocabulary is projected there only."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(summed cross-entropy in nats, number of supervised tokens)."""
        model = plain_model(self.body)
        ids_BT = batch["input_ids"]
        wanted_BT = batch["supervised"][:, 1:]
        inputs = {"input_ids": ids_BT, "attention_mask": batch["attention_mask"]}
        if "position_ids" in batch:
            inputs = packed_inputs(model, ids_BT, batch["position_ids"])
        if any(getattr(model.config, name, None) for name in _SCALED_LOGITS):
            logits_BTV = model(**inputs).logits.reshape(*ids_BT.shape, -1)
            logits_NV = logits_BTV[:, :-1][wanted_BT]
        else:
            states_BTD = backbone(model)(**inputs).last_hidden_state
            states_BTD = states_BTD.reshape(*ids_BT.shape, -1)
            logits_NV = model.get_output_embeddings()(states_BTD[:, :-1][wanted_BT])
        weights = batch["weights"][:, 1:][wanted_BT] if "weights" in batch else None
        return _summed(logits_NV.float(), ids_BT[:, 1:][wanted_BT], weights)


class MaskedModel(nn.Module):
    """Masked-language loss (Devlin et al. 2019, section 3.1): the masked tokens only."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(summed cross-entropy in nats, number of masked tokens)."""
        model = plain_model(self.body)
        inputs = {"input_ids": batch["masked_ids"], "attention_mask": batch["attention_mask"]}
        chosen = batch["chosen"]
        head = next((getattr(model, name) for name in _MASK_HEADS if hasattr(model, name)), None)
        if head is None:
            logits_NV = model(**inputs).logits[chosen]
        else:
            logits_NV = head(backbone(model)(**inputs).last_hidden_state[chosen])
        weights = batch["weights"][chosen] if "weights" in batch else None
        return _summed(logits_NV.float(), batch["input_ids"][chosen], weights)


class LabelModel(nn.Module):
    """Cross-entropy of a classifier's logits; keeps the count of right answers too."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(summed cross-entropy in nats, number of rows)."""
        logits = self.classifier(batch["input_ids"], batch["attention_mask"])
        return _summed(logits, batch["labels"], batch.get("weights"))


def _summed(
    logits_NV: torch.Tensor, targets_N: torch.Tensor, weights_N: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    if weights_N is None:
        loss = functional.cross_entropy(logits_NV, targets_N, reduction="sum")
        return loss, torch.tensor(len(targets_N), device=loss.device)
    losses_N = functional.cross_entropy(logits_NV, targets_N, reduction="none")
    return (losses_N * weights_N).sum(), weights_N.sum()


def class_weights(data: Path, labels: Sequence[str]) -> torch.Tensor | None:
    """Weights in the order of ``labels`` where the Dataset has class_weights.json.

    Raises:
        DataError: a label without a weight, or a weight that is no positive number.
    """
    file = data / "class_weights.json"
    if not file.is_file():
        return None
    tree = json.loads(file.read_text(encoding="utf-8"))
    for label in labels:
        weight = tree.get(label)
        if not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise DataError(
                f"class_weights.json: the weight of {label!r} is {weight}; every label needs a "
                "positive one"
            )
    return torch.tensor([float(tree[label]) for label in labels])


def mask_tokens(
    batch: dict[str, torch.Tensor],
    *,
    special_ids: Sequence[int],
    mask_id: int,
    vocab_size: int,
    probability: float,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Chooses tokens to predict: 80 % become the mask, 10 % a random token, 10 % stay.

    At least one token of the batch is chosen. Adds ``masked_ids`` and ``chosen`` [B, T].
    """
    ids = batch["input_ids"]
    special = torch.isin(ids, torch.tensor(list(special_ids))) | (batch["attention_mask"] == 0)
    draw = torch.rand(ids.shape, generator=generator).masked_fill(special, 2.0)
    chosen = draw < probability
    if not chosen.any():
        chosen.view(-1)[draw.argmin()] = True
    kind = torch.rand(ids.shape, generator=generator)
    random_ids = torch.randint(vocab_size, ids.shape, generator=generator)
    masked = ids.clone()
    masked[chosen & (kind < 0.8)] = mask_id
    swapped = chosen & (kind >= 0.8) & (kind < 0.9)
    masked[swapped] = random_ids[swapped]
    return {**batch, "masked_ids": masked, "chosen": chosen}
