"""The head of a model that reads: token states, pooled or one by one, then one linear layer."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.modeling.features import FeatureScale
from pipeline.modeling.loading import backbone, plain_model

HEAD_WEIGHTS = "head.safetensors"
HEAD_CONFIG = "head.json"
SCORE = "score.weight"

Kind = Literal["single", "multi", "tag", "regress"]
POOLINGS = ("last", "mean", "cls")


@dataclass(frozen=True)
class HeadConfig:
    """What a head is.

    Attributes:
        labels: in the order of its logits; of tags with kind ``tag``; none with ``regress``.
        pooling: ``last``, ``mean`` or ``cls``; without meaning for ``tag``.
        dropout: of the states, while training.
        hidden_size: features of a token's state.
        kind: one label for a row, any number of labels, a tag for each token, or a number.
        features: hand-made features that are joined to the pooled state, or None.
        value_mean, value_std: of the values that ``regress`` was trained on.
    """

    labels: tuple[str, ...]
    pooling: str
    dropout: float
    hidden_size: int
    kind: Kind = "single"
    features: FeatureScale | None = None
    value_mean: float = 0.0
    value_std: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight: (outputs, inputs)."""
        joined = 0 if self.features is None else len(self.features.names)
        return (1 if self.kind == "regress" else len(self.labels)), self.hidden_size + joined


def pool(states_BTD: torch.Tensor, mask_BT: torch.Tensor, pooling: str) -> torch.Tensor:
    """Token states to one vector for each row.

    Args:
        states_BTD: B rows, T tokens, D features.
        mask_BT: 1 for the tokens that count; they stand on the left.
        pooling: ``last`` of them, their ``mean``, or ``cls`` (the first).

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
        outputs, inputs = config.shape
        # Without a bias: the shape that transformers' decoders for classification have.
        self.score = nn.Linear(inputs, outputs, bias=False)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits in float32: [B, outputs], or [B, T, outputs] of a tagger.

        Args:
            input_ids, attention_mask: [B, T], padding on the right.
            features: [B, F], standardised (``FeatureScale.scaled``).
        """
        states = backbone(plain_model(self.body))(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return self.logits(states, attention_mask, features)

    def logits(
        self,
        states_BTD: torch.Tensor,
        mask_BT: torch.Tensor,
        features_BF: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of states that are already there, over the tokens that ``mask_BT`` marks.

        Raises:
            ModelError: features where the head takes none, or none where it takes some.
        """
        if (features_BF is None) != (self.config.features is None):
            wanted = "takes none" if self.config.features is None else "was trained with some"
            raise ModelError(f"data.features: the head {wanted}; prepare the data as it was then")
        if self.config.kind != "tag":
            states_BTD = pool(states_BTD, mask_BT, self.config.pooling)
        states = self.dropout(states_BTD.to(self.score.weight.dtype))
        if features_BF is not None:
            states = torch.cat([states, features_BF.to(states.dtype)], dim=-1)
        return self.score(states).float()


def new_classifier(body: Any, config: HeadConfig, seed: int) -> Classifier:
    """A classifier with a fresh head drawn from ``seed``.

    Raises:
        ModelError: too few labels to tell apart.
    """
    if config.kind in {"single", "tag"} and len(config.labels) < 2:
        raise ModelError(f"data.train: {len(config.labels)} label; a classifier needs two or more")
    if config.kind == "multi" and not config.labels:
        raise ModelError("data.train: no row has a label; a classifier needs one or more")
    torch.manual_seed(seed)
    classifier = Classifier(body, config)
    nn.init.normal_(classifier.score.weight, std=0.02)
    return classifier


def save_head(classifier: Classifier, weight: torch.Tensor, out: Path) -> None:
    """Writes the head's weight [outputs, hidden + features] and its config."""
    from safetensors.torch import save_file

    save_file({SCORE: weight.contiguous().cpu()}, str(out / HEAD_WEIGHTS))
    config = classifier.config
    tree = {
        "kind": config.kind,
        "labels": list(config.labels),
        "pooling": config.pooling,
        "dropout": config.dropout,
        "hidden_size": config.hidden_size,
        "features": None if config.features is None else config.features.as_tree(),
        "value_mean": config.value_mean,
        "value_std": config.value_std,
    }
    text = json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False)
    (out / HEAD_CONFIG).write_text(text + "\n", encoding="utf-8")


def read_head(folder: Path) -> HeadConfig:
    """What head.json says.

    Raises:
        ModelError: it is missing, torn, or does not make sense.
    """
    file = folder / HEAD_CONFIG
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        features = tree["features"]
        config = HeadConfig(
            labels=tuple(str(label) for label in tree["labels"]),
            pooling=tree["pooling"],
            dropout=float(tree["dropout"]),
            hidden_size=int(tree["hidden_size"]),
            kind=tree["kind"],
            features=None if features is None else FeatureScale.of_tree(features),
            value_mean=float(tree["value_mean"]),
            value_std=float(tree["value_std"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(_unreadable(file, error)) from None
    if (
        config.kind not in get_args(Kind)
        or config.pooling not in POOLINGS
        or not math.isfinite(config.value_mean)
        or not 0 < config.value_std < math.inf
        or len(set(config.labels)) != len(config.labels)
        or (config.kind != "regress") != bool(config.labels)
    ):
        raise ModelError(f"{file}: its parts do not go together; train the head again")
    return config


def _unreadable(file: Path, error: Exception) -> str:
    what = f"{type(error).__name__}: {error}".splitlines()[0][:160]
    return f"{file}: cannot be read ({what}); point to a model that has a head, or train it again"


def load_classifier(body: Any, folder: Path) -> Classifier:
    """A body with the head that lies in ``folder``.

    Raises:
        ModelError: files that are missing or torn, or a head of another size than its config
            or the body.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config, file = read_head(folder), folder / HEAD_WEIGHTS
    try:
        weight = load_file(str(file))[SCORE]
    except (OSError, KeyError, SafetensorError) as error:
        raise ModelError(_unreadable(file, error)) from None
    if tuple(weight.shape) != config.shape:
        raise ModelError(
            f"{file}: the weight is {list(weight.shape)} and {HEAD_CONFIG} says "
            f"{list(config.shape)}; they are of two heads"
        )
    require_hidden_size(body, config.hidden_size, str(folder))
    classifier = Classifier(body, config)
    with torch.no_grad():
        classifier.score.weight.copy_(weight)
    return classifier


def require_hidden_size(body: Any, size: int, where: str) -> None:
    """Refuses a head whose states are not this base's."""
    own = hidden_size(body)
    if own != size:
        raise ModelError(
            f"{where}: the head takes states of {size} features and the base makes {own}; "
            "it is of another base"
        )


def hidden_size(body: Any) -> int:
    """Features of a token's state."""
    size: int = plain_model(body).config.get_text_config().hidden_size
    return size
