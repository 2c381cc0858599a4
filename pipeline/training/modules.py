"""Which module trains an objective, and the head that it needs, made of the Dataset."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.core.errors import DataError
from pipeline.core.objectives import OBJECTIVES
from pipeline.data.arrow import read_rows
from pipeline.modeling.features import FEATURES_FILE, FeatureScale, fit_features, moments
from pipeline.modeling.heads import Classifier, HeadConfig, Kind, hidden_size, new_classifier
from pipeline.training.objectives import (
    HybridModel,
    LabelModel,
    MaskedModel,
    Objective,
    PreferenceModel,
    RegressModel,
    TagModel,
    TokenModel,
)

_WITH_HEAD: Mapping[str, type[LabelModel] | type[HybridModel] | type[TagModel] | type[RegressModel]]
_WITH_HEAD = {
    "classify": LabelModel, "hybrid": HybridModel, "tag": TagModel, "regress": RegressModel
}  # fmt: skip


def module_for(
    objective: str, body: Any, data: Path, config: Mapping[str, Any], labels: Sequence[str]
) -> Objective:
    """The module that trains ``objective``, with a fresh head where it needs one.

    Args:
        body: the language model, perhaps wrapped by PEFT.
        data: the Dataset's folder; features and values are standardised on its training split.
        config: the settings of `train`.
        labels: of labels.json, in the order of the logits.

    Raises:
        DataError, ModelError: a Dataset that does not fit the objective.
    """
    if not OBJECTIVES[objective].head:
        if objective == "dpo":
            return PreferenceModel(body, config["dpo_beta"])
        return MaskedModel(body) if objective == "mlm" else TokenModel(body)
    kind = _kind(objective, data)
    mean, std = _values(data) if kind == "regress" else (0.0, 1.0)
    head = HeadConfig(
        labels=() if kind == "regress" else tuple(labels),
        pooling=config["head"]["pooling"],
        dropout=config["head"]["dropout"],
        hidden_size=hidden_size(body),
        kind=kind,
        features=_features(data) if objective == "classify" else None,
        value_mean=mean,
        value_std=std,
    )
    return _WITH_HEAD[objective](new_classifier(body, head, config["seed"]))


def classifier_of(module: nn.Module) -> Classifier | None:
    """The head with its body, where a module trains one."""
    found = getattr(module, "classifier", None)
    return found if isinstance(found, Classifier) else None


def head_of(module: nn.Module) -> HeadConfig:
    """What the head of a module that trains one is."""
    classifier: Any = module.classifier
    config: HeadConfig = classifier.config
    return config


def kind_of(module: nn.Module) -> str:
    """What is judged: the head's kind, ``preference``, or ``text`` (the loss alone)."""
    if classifier_of(module) is not None:
        return head_of(module).kind
    return "preference" if isinstance(module, PreferenceModel) else "text"


def _kind(objective: str, data: Path) -> Kind:
    if objective == "tag":
        return "tag"
    if objective == "regress":
        return "regress"
    render = data / "render.json"
    several = render.is_file() and json.loads(render.read_text(encoding="utf-8"))["multi_label"]
    return "multi" if objective == "classify" and several else "single"


def _features(data: Path) -> FeatureScale | None:
    if not (data / FEATURES_FILE).is_file():
        return None
    rows = read_rows(data / "train.arrow", ["features"])
    return fit_features(data, [row["features"] for row in rows])


def _values(data: Path) -> tuple[float, float]:
    """(mean, standard deviation) of the training split's values.

    Raises:
        DataError: a value that is missing or no finite number, or all of them equal.
    """
    values = [row["value"] for row in read_rows(data / "train.arrow", ["value"])]
    for value in values:
        if value is None or not math.isfinite(value):
            raise DataError(f"data.train: a row's value is {value}; regress needs a finite number")
    if not values:
        raise DataError("data.train: no rows are left to train on")
    if min(values) == max(values):
        raise DataError(f"data.train: every value is {values[0]}; there is nothing to predict")
    (mean,), (std,) = moments(np.asarray(values, dtype=np.float64)[:, None])
    return mean, std


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
