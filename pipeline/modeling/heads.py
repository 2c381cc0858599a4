"""The classifier head: token states pooled into one vector, then one linear layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.modeling.loading import backbone, plain_model

HEAD_WEIGHTS = "head.safetensors"
HEAD_CONFIG = "head.json"


@dataclass(frozen=True)
class HeadConfig:
    """What a head is: its labels in the order of its logits, and how it pools."""

    labels: tuple[str, ...]
    pooling: str
    dropout: float
    hidden_size: int


def pool(states_BTD: torch.Tensor, mask_BT: torch.Tensor, pooling: str) -> torch.Tensor:
    """Token states to one vector for each row.

    Args:
        states_BTD: B rows, T tokens, D features.
        mask_BT: 1 for real tokens; padding on the right.
        pooling: ``last`` real token, ``mean`` of the real tokens, or ``cls`` (the first).

    Returns:
        [B, D].
    """
    if pooling == "cls":
        return states_BTD[:, 0]
    if pooling == "last":
        last_B = mask_BT.sum(dim=1) - 1
        return states_BTD[torch.arange(states_BTD.shape[0], device=states_BTD.device), last_B]
    weights_BT1 = mask_BT.unsqueeze(-1).to(states_BTD.dtype)
    return (states_BTD * weights_BT1).sum(dim=1) / weights_BT1.sum(dim=1).clamp(min=1)


class Classifier(nn.Module):
    """A language model's backbone with a head. ``body`` may carry LoRA layers."""

    def __init__(self, body: nn.Module, config: HeadConfig) -> None:
        super().__init__()
        self.body = body
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        # Without a bias: the shape that transformers' decoders for classification have.
        self.score = nn.Linear(config.hidden_size, len(config.labels), bias=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits [B, labels] in float32."""
        model = plain_model(self.body)
        states = backbone(model)(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        pooled = pool(states, attention_mask, self.config.pooling)
        return self.score(self.dropout(pooled.to(self.score.weight.dtype))).float()


def new_classifier(
    body: Any, labels: Sequence[str], pooling: str, dropout: float, seed: int
) -> Classifier:
    """A classifier with a fresh head drawn from ``seed``."""
    if len(labels) < 2:
        raise ModelError(f"data.train: {len(labels)} label; a classifier needs two or more")
    model = plain_model(body)
    config = HeadConfig(tuple(labels), pooling, dropout, model.config.hidden_size)
    torch.manual_seed(seed)
    classifier = Classifier(body, config)
    nn.init.normal_(classifier.score.weight, std=0.02)
    return classifier


def save_head(classifier: Classifier, weight: torch.Tensor, out: Path) -> None:
    """Writes the head's weight [labels, hidden] and its config."""
    from safetensors.torch import save_file

    save_file({"score.weight": weight.contiguous().cpu()}, str(out / HEAD_WEIGHTS))
    text = json.dumps(asdict(classifier.config), indent=1, sort_keys=True, ensure_ascii=False)
    (out / HEAD_CONFIG).write_text(text + "\n", encoding="utf-8")


def load_classifier(body: Any, folder: Path) -> Classifier:
    """A body with the head that lies in ``folder``."""
    from safetensors.torch import load_file

    try:
        tree = json.loads((folder / HEAD_CONFIG).read_text(encoding="utf-8"))
        weight = load_file(str(folder / HEAD_WEIGHTS))["score.weight"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: no classifier head that can be read ({error})") from None
    config = HeadConfig(tuple(tree["labels"]), tree["pooling"], tree["dropout"], weight.shape[1])
    classifier = Classifier(body, config)
    with torch.no_grad():
        classifier.score.weight.copy_(weight)
    return classifier
