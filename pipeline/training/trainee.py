"""Builds what is trained from a root, a parent's adapter and the settings; writes it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.core.errors import ModelError, TrainingError
from pipeline.modeling.adapters import add_lora, attach_frozen, lora_config, merge_into
from pipeline.modeling.adapters import write_adapter as write_adapter_folder
from pipeline.modeling.heads import new_classifier, save_head
from pipeline.modeling.loading import (
    backbone,
    load_model,
    load_tokenizer,
    model_kind,
    save_model,
)
from pipeline.training.objectives import LabelModel, MaskedModel, TokenModel, class_weights


@dataclass(frozen=True)
class TrainJob:
    """Paths and settings of one training; plain values, so that a worker can read it as JSON.

    Attributes:
        root: the base model's folder.
        parent: a stacked adapter over the root that training starts from, or None.
        data: the prepared Dataset's folder.
        out: an empty folder for the result.
        work: where checkpoints go.
        config, options: as in the plan.
    """

    root: str
    parent: str | None
    data: str
    out: str
    work: str
    config: Mapping[str, Any]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Trainee:
    """A model ready for steps.

    Attributes:
        module: batch -> (summed loss, number of targets).
        body: the language model, perhaps wrapped by PEFT.
        labels: of a classifier, in the order of its logits.
        class_weights: what each label counts in a classifier's loss; None: all the same.
    """

    module: nn.Module
    body: Any
    tokenizer: Any
    labels: tuple[str, ...]
    class_weights: torch.Tensor | None = None

    def trainable(self) -> dict[str, nn.Parameter]:
        """Name to parameter of what an update changes."""
        return {n: p for n, p in self.module.named_parameters() if p.requires_grad}


def build(job: TrainJob, attention: str = "sdpa") -> Trainee:
    """Loads the base, applies the parent, adds adapter and head as the settings say.

    Raises:
        ModelError: an objective that this base cannot be trained on.
    """
    root, config = Path(job.root), job.config
    method, objective, seed = config["method"], config["objective"], config["seed"]
    encoder = model_kind(root) == "encoder"
    if encoder != (objective == "mlm") and objective != "classify":
        wanted = "a causal model" if encoder else "an encoder"
        raise ModelError(f"train.objective: {objective} needs {wanted}, and {root} is none")
    cuda = torch.cuda.is_available()
    model = load_model(
        root,
        bf16_weights=cuda and method != "full" and config["precision"] == "bf16",
        quantisation="nf4" if method == "qlora" else None,
        attention=attention,
    )
    if objective == "mlm" and method != "full" and model.gradus_untrained:
        raise ModelError(
            f"train.method: {method}: the base has no trained language-model head "
            f"({model.gradus_untrained[0]}); mlm needs method full here"
        )
    body = _with_adapters(model, job, encoder=encoder)
    if job.options.get("gradient_checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    tokenizer = load_tokenizer(root)
    labels = tuple(json.loads((Path(job.data) / "labels.json").read_text()))
    if objective == "classify":
        head = config["head"]
        classifier = new_classifier(body, labels, head["pooling"], head["dropout"], seed)
        _freeze_language_head(model)
        weights = class_weights(Path(job.data), labels)
        return Trainee(LabelModel(classifier), body, tokenizer, labels, weights)
    module = MaskedModel(body) if objective == "mlm" else TokenModel(body)
    return Trainee(module, body, tokenizer, labels)


def _with_adapters(model: Any, job: TrainJob, *, encoder: bool) -> Any:
    config = job.config
    merged = job.parent is None
    weights = next(model.parameters()).dtype
    if job.parent is not None and config["method"] != "qlora" and weights == torch.float32:
        merge_into(model, Path(job.parent))
        merged = True
    if config["method"] == "full":
        if not merged:
            raise ModelError("train.method: full over an adapter needs float32 weights")
        return model
    if merged:
        return add_lora(model, config, seed=config["seed"], encoder=encoder)
    # 4-bit or bf16 weights would round the parent's update away: it stays beside them.
    assert job.parent is not None
    body = attach_frozen(model, Path(job.parent))
    torch.manual_seed(config["seed"])
    body.add_adapter("default", lora_config(config, encoder=encoder))
    body.base_model.set_adapter(["parent", "default"])
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(".default." in name)
    return body


def _freeze_language_head(model: Any) -> None:
    """A classifier never uses the vocabulary head; frozen, it cannot wait for gradients."""
    used = {id(parameter) for parameter in backbone(model).parameters()}
    for parameter in model.parameters():
        if id(parameter) not in used:
            parameter.requires_grad_(False)


def write_result(trainee: Trainee, job: TrainJob, state: Mapping[str, torch.Tensor]) -> None:
    """Writes the adapter or the full model, and the head.

    Args:
        state: trainable name to tensor, gathered from all processes.

    Raises:
        TrainingError: an adapter whose B never left zero: nothing was trained.
    """
    out = Path(job.out)
    _load_state(trainee, state)
    if job.config["method"] == "full":
        save_model(trainee.body, trainee.tokenizer, out)
    else:
        _write_lora(trainee, out)
    if isinstance(trainee.module, LabelModel):
        classifier: Any = trainee.module.classifier
        save_head(classifier, classifier.score.weight.detach().float(), out)


def _load_state(trainee: Trainee, state: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in trainee.trainable().items():
            parameter.copy_(state[name])


def _write_lora(trainee: Trainee, out: Path) -> None:
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(trainee.body, adapter_name="default")
    moved = [n for n, t in tensors.items() if ".lora_B." in n and bool((t != 0).any())]
    if not moved:
        raise TrainingError(
            "train: the adapter's update is zero after training; raise train.learning_rate or "
            "check that rows have supervised tokens"
        )
    config = trainee.body.peft_config["default"].to_dict()
    config["base_model_name_or_path"] = None
    config["inference_mode"] = True
    write_adapter_folder(out, {n: t.float() for n, t in tensors.items()}, config)


def special_ids(tokenizer: Any) -> Sequence[int]:
    """Ids that masking leaves alone.

    Raises:
        ModelError: a tokenizer without a mask token.
    """
    if tokenizer.mask_token_id is None:
        raise ModelError("train.objective: mlm needs a tokenizer with a mask token")
    ids: Sequence[int] = tokenizer.all_special_ids
    return ids
