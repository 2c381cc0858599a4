"""What is minimised: summed loss and how many targets it sums over, for each objective.

Each module takes what ``targets.batch_of`` makes. ``forward`` gives (summed loss in nats, count);
``outputs`` gives logits or rewards too, for validation. Where a batch has ``weights`` (of tokens)
or ``row_weights``, the loss is the weighted sum and the count the sum of the weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from pipeline.modeling.heads import Classifier
from pipeline.modeling.loading import backbone, plain_model
from pipeline.training.vocabulary import Tokens, read_tokens, summed_cross_entropy

Batch = Mapping[str, torch.Tensor]
Loss = tuple[torch.Tensor, torch.Tensor]
Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
# A token without a tag, as torch's cross-entropy ignores it.
NO_TAG = -100
# The vocabulary heads of BERT's and RoBERTa's families; others project every token.
_MASK_HEADS = ("cls", "lm_head")


class Objective(nn.Module, ABC):
    """A loss; all that is differentiated lies within one call of it."""

    @abstractmethod
    def outputs(self, batch: Batch) -> Outputs:
        """(summed loss, count, logits or None)."""

    @abstractmethod
    def count(self, batch: Batch) -> torch.Tensor:
        """What the loss sums over: targets, rows, or their weights."""

    def forward(self, batch: Batch) -> Loss:
        """(summed loss, count)."""
        summed, count, _ = self.outputs(batch)
        return summed, count


class TokenModel(Objective):
    """Next-token loss over supervised tokens; the vocabulary is projected there only."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def outputs(self, batch: Batch) -> Outputs:
        """(summed cross-entropy, supervised tokens or their weights, None)."""
        tokens = read_tokens(self.body, batch)
        weights_N = batch["weights"][:, 1:][tokens.wanted] if "weights" in batch else None
        return tokens.loss(weights_N), self.count(batch), None

    def count(self, batch: Batch) -> torch.Tensor:
        """Supervised tokens or their weights."""
        return batch.get("weights", batch["supervised"]).double().sum()


class MaskedModel(Objective):
    """Masked-language loss (Devlin et al. 2019, section 3.1): the masked tokens only."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def outputs(self, batch: Batch) -> Outputs:
        """(summed cross-entropy, masked tokens or their weights, None)."""
        model = plain_model(self.body)
        inputs = {"input_ids": batch["masked_ids"], "attention_mask": batch["attention_mask"]}
        chosen = batch["chosen"]
        head = next((getattr(model, name) for name in _MASK_HEADS if hasattr(model, name)), None)
        if head is None:
            logits_NV = model(**inputs).logits[chosen]
        else:
            logits_NV = head(backbone(model)(**inputs).last_hidden_state[chosen])
        weights_N = batch["weights"][chosen] if "weights" in batch else None
        targets_N = batch["input_ids"][chosen]
        loss = summed_cross_entropy(logits_NV.float(), targets_N, weights_N)
        return loss, self.count(batch), None

    def count(self, batch: Batch) -> torch.Tensor:
        """Masked tokens or their weights."""
        return batch.get("weights", batch["chosen"]).double().sum()


class PreferenceModel(Objective):
    """Chosen above rejected: DPO's sigmoid loss (Rafailov et al. 2023, equation 7).

    Args:
        beta: the cost of leaving the reference.
    """

    def __init__(self, body: nn.Module, beta: float) -> None:
        super().__init__()
        self.body = body
        self.beta = beta

    @torch.no_grad()
    def log_probabilities(self, batch: Batch) -> torch.Tensor:
        """Of the supervised tokens of (chosen, rejected) together, without gradients: [B, 2]."""
        return self._read(batch).log_probabilities().view(-1, 2)

    def outputs(self, batch: Batch) -> Outputs:
        """(summed loss, pairs, rewards [B, 2] of chosen and rejected)."""
        tokens = self._read(batch)
        rewards_B2 = self.beta * (tokens.log_probabilities().view(-1, 2) - batch["reference"])
        margin_B = rewards_B2[:, 0] - rewards_B2[:, 1]
        loss = -functional.logsigmoid(margin_B).sum()
        if torch.is_grad_enabled():
            # The loss's derivative by each log-probability is known before the vocabulary's
            # gradients are made, so they too are made in chunks. The value is the loss's own.
            slope_B = self.beta * torch.sigmoid(-margin_B)
            slope_N = tokens.of_rows(torch.stack([slope_B, -slope_B], dim=1).view(-1))
            carrier = tokens.loss(slope_N)
            loss = loss + carrier - carrier.detach()
        return loss, self.count(batch), rewards_B2

    def count(self, batch: Batch) -> torch.Tensor:
        """Pairs."""
        return _rows(batch)

    def _read(self, batch: Batch) -> Tokens:
        names = ("input_ids", "attention_mask", "supervised")
        return read_tokens(self.body, {name: batch[name].flatten(0, 1) for name in names})


class LabelModel(Objective):
    """A row's label (cross-entropy), or its labels.

    Of several labels the loss is the mean over all labels of the binary cross-entropy, so that
    the whole is torch's BCEWithLogitsLoss over [B, L].
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def outputs(self, batch: Batch) -> Outputs:
        """(summed loss, rows or their weights, logits [B, L])."""
        logits_BL = _row_logits(self.classifier, batch)
        labels, weights_B = batch["labels"], batch.get("row_weights")
        if labels.ndim == 1:
            loss = summed_cross_entropy(logits_BL, labels, weights_B)
        else:
            loss = (
                functional.binary_cross_entropy_with_logits(
                    logits_BL, labels.to(logits_BL.dtype), reduction="sum"
                )
                / (logits_BL.shape[1])
            )
        return loss, self.count(batch), logits_BL.detach()

    def count(self, batch: Batch) -> torch.Tensor:
        """Rows or their weights."""
        return batch["row_weights"].double().sum() if "row_weights" in batch else _rows(batch)


class HybridModel(Objective):
    """The label in writing and the head's label, from one pass over question and answer.

    The head sees the question's tokens only; a causal model's states there know no answer. The
    batch's ``weights`` and ``row_weights`` already hold both losses' shares.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def outputs(self, batch: Batch) -> Outputs:
        """(summed loss, rows, logits [B, L])."""
        tokens = read_tokens(self.classifier.body, batch)
        places = torch.arange(batch["input_ids"].shape[1], device=batch["input_ids"].device)
        question_BT = places < batch["prompt"][:, None]
        logits_BL = self.classifier.logits(tokens.states, question_BT.long())
        written = tokens.loss(batch["weights"][:, 1:][tokens.wanted])
        judged = summed_cross_entropy(logits_BL, batch["labels"], batch["row_weights"])
        return written + judged, self.count(batch), logits_BL.detach()

    def count(self, batch: Batch) -> torch.Tensor:
        """Rows: both losses' shares lie in the weights."""
        return _rows(batch)


class TagModel(Objective):
    """Cross-entropy of each token's tag; tokens without one (NO_TAG) count nothing."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def outputs(self, batch: Batch) -> Outputs:
        """(summed loss, tagged tokens, logits [B, T, L])."""
        logits_BTL = _row_logits(self.classifier, batch)
        tagged_BT = batch["tags"] != NO_TAG
        tags_N = batch["tags"][tagged_BT]
        loss = summed_cross_entropy(logits_BTL[tagged_BT], tags_N, None)
        return loss, self.count(batch), logits_BTL.detach()

    def count(self, batch: Batch) -> torch.Tensor:
        """Tokens that have a tag."""
        return (batch["tags"] != NO_TAG).sum()


class RegressModel(Objective):
    """Squared error of the value, standardised on the training split."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def outputs(self, batch: Batch) -> Outputs:
        """(summed loss, rows, standardised predictions [B])."""
        found_B = _row_logits(self.classifier, batch)[:, 0]
        loss = functional.mse_loss(found_B, batch["values"].to(found_B.dtype), reduction="sum")
        return loss, self.count(batch), found_B.detach()

    def count(self, batch: Batch) -> torch.Tensor:
        """Rows."""
        return _rows(batch)


def _row_logits(classifier: Classifier, batch: Batch) -> torch.Tensor:
    inputs = [batch["input_ids"], batch["attention_mask"]]
    if "features" in batch:
        inputs.append(batch["features"])
    logits: torch.Tensor = classifier(*inputs)
    return logits


def _rows(batch: Batch) -> torch.Tensor:
    return torch.tensor(len(batch["input_ids"]), device=batch["input_ids"].device)
