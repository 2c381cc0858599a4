"""What is minimised: summed loss and how many targets it sums over, for each objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from pipeline.modeling.loading import backbone, plain_model

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
        targets_BT = batch["input_ids"][:, 1:]
        wanted_BT = batch["supervised"][:, 1:]
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        if any(getattr(model.config, name, None) for name in _SCALED_LOGITS):
            logits_NV = model(**inputs).logits[:, :-1][wanted_BT]
        else:
            states = backbone(model)(**inputs).last_hidden_state[:, :-1][wanted_BT]
            logits_NV = model.get_output_embeddings()(states)
        loss = functional.cross_entropy(logits_NV.float(), targets_BT[wanted_BT], reduction="sum")
        return loss, wanted_BT.sum()


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
        loss = functional.cross_entropy(
            logits_NV.float(), batch["input_ids"][chosen], reduction="sum"
        )
        return loss, chosen.sum()


class LabelModel(nn.Module):
    """Cross-entropy of a classifier's logits; keeps the count of right answers too."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(summed cross-entropy in nats, number of rows)."""
        logits = self.classifier(batch["input_ids"], batch["attention_mask"])
        loss = functional.cross_entropy(logits, batch["labels"], reduction="sum")
        return loss, torch.tensor(len(logits), device=logits.device)


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
