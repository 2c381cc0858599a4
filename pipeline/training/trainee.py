"""Builds what is trained from a root, a parent's adapter and the settings; writes it back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.core.errors import ModelError, TrainingError
from pipeline.core.model_config import read_config
from pipeline.core.objectives import OBJECTIVES, pooling_problem
from pipeline.data.arrow import Split
from pipeline.modeling import segment_attention
from pipeline.modeling.adapter_files import write_adapter as write_adapter_folder
from pipeline.modeling.adapters import (
    adapter_tensors,
    add_lora,
    attach_frozen,
    load_adapter_into,
    merge_into,
)
from pipeline.modeling.heads import save_head
from pipeline.modeling.kernels import kernel_of, masked_kernel
from pipeline.modeling.loading import (
    backbone,
    kind_of_folder,
    load_model,
    load_tokenizer,
    save_model,
)
from pipeline.training.memory import frozen_in_bf16
from pipeline.training.modules import class_weights, classifier_of, module_for
from pipeline.training.packed import is_packed

_COMPILED_PAD = 128


@dataclass(frozen=True)
class TrainJob:
    """Paths and settings of one training; plain values, so that a worker can read it as JSON.

    Attributes:
        root: the base model's folder.
        parent: a stacked adapter over the root that training starts from, or None.
        data: the prepared Dataset's folder.
        out: an empty folder for the result.
        work: where checkpoints go; every process sees it.
        config, options: as in the plan.
        init: an adapter of the same form whose weights are trained on, or None.
    """

    root: str
    parent: str | None
    data: str
    out: str
    work: str
    config: Mapping[str, Any]
    options: Mapping[str, Any]
    init: str | None = None


@dataclass(frozen=True)
class Trainee:
    """A model ready for steps.

    Attributes:
        module: batch -> (summed loss, number of targets).
        body: the language model, perhaps wrapped by PEFT.
        labels: of a head, in the order of its logits.
        class_weights: what each label counts in a classifier's loss; None: all the same.
        pad_to: rows are padded to a multiple of so many tokens.
    """

    module: nn.Module
    body: Any
    tokenizer: Any
    labels: tuple[str, ...]
    class_weights: torch.Tensor | None = None
    pad_to: int = 8

    @property
    def kind(self) -> str | None:
        """The head's kind: single, multi, tag or regress; None without a head."""
        classifier = classifier_of(self.module)
        return None if classifier is None else classifier.config.kind

    def trainable(self) -> dict[str, nn.Parameter]:
        """Name to parameter of what an update changes."""
        return {n: p for n, p in self.module.named_parameters() if p.requires_grad}


def attention_of(job: TrainJob, rows: Split) -> str:
    """The attention kernel, by transformers' name, which knows it."""
    kernel = kernel_of(
        job.options.get("attention"),
        read_config(Path(job.root)),
        rows.lengths(),
        packed=is_packed(rows),
        gpu=torch.cuda.is_available(),
    )
    return segment_attention.offer() if kernel == segment_attention.NAME else kernel


def masked_attention(rows: Split) -> str:
    """The kernel for rows that keep their masks."""
    return masked_kernel(rows.lengths(), gpu=torch.cuda.is_available())


def build(job: TrainJob, rows: Split) -> Trainee:
    """Loads the base, applies the parent, adds adapter and head as the settings say.

    Args:
        rows: the training split; its lengths choose the attention kernel.

    Raises:
        ModelError: an objective that this base cannot be trained on.
    """
    root, config = Path(job.root), job.config
    method, objective = config["method"], config["objective"]
    encoder = kind_of_folder(root) == "encoder"
    needs = OBJECTIVES[objective].needs
    if needs != "either" and encoder != (needs == "encoder"):
        wanted = "a causal model" if encoder else "an encoder"
        raise ModelError(f"train.objective: {objective} needs {wanted}, and {root} is none")
    problem = pooling_problem(
        objective, config.get("head", {}).get("pooling", "last"), causal=not encoder
    )
    if problem is not None:
        raise ModelError(problem)
    # What the base's files lack (many encoders come without their language-model head) is drawn.
    torch.manual_seed(config["seed"])
    model = load_model(
        root,
        bf16_weights=frozen_in_bf16(config, gpu=torch.cuda.is_available()),
        quantisation="nf4" if method == "qlora" else None,
        compute=config["precision"],
        attention=attention_of(job, rows),
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
    module = module_for(objective, body, Path(job.data), config, labels)
    if OBJECTIVES[objective].head and not OBJECTIVES[objective].writes:
        _freeze_language_head(model)
    weights = class_weights(Path(job.data), labels) if objective in {"classify", "hybrid"} else None
    return Trainee(module, body, tokenizer, labels, weights, pad_to=_pad_to(job, rows))


def _pad_to(job: TrainJob, rows: Split) -> int:
    """A compiled layer is compiled anew for each width: then few widths, of blocks only one."""
    if not job.options.get("compile"):
        return 8
    return int(rows.lengths().max(initial=1)) if is_packed(rows) else _COMPILED_PAD


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
        return _started(add_lora(model, config, seed=config["seed"], encoder=encoder), job)
    # 4-bit or bf16 weights would round the parent's update away: it stays beside them.
    assert job.parent is not None
    beside = attach_frozen(model, Path(job.parent))
    return _started(add_lora(beside, config, seed=config["seed"], encoder=encoder), job)


def _started(body: Any, job: TrainJob) -> Any:
    """The fresh adapter, or with the weights of the one that is to be trained on."""
    if job.init is not None:
        load_adapter_into(body, Path(job.init))
    return body


def _freeze_language_head(model: Any) -> None:
    """A classifier never uses the vocabulary head; frozen, it cannot wait for gradients."""
    used = {id(parameter) for parameter in backbone(model).parameters()}
    for parameter in model.parameters():
        if id(parameter) not in used:
            parameter.requires_grad_(False)


def result_tensors(trainee: Trainee, method: str) -> Iterator[tuple[str, torch.Tensor]]:
    """What the result is made of: all weights of a full model, else what was trained.

    Names are those of ``trainee.module``.
    """
    for name, parameter in trainee.module.named_parameters():
        if method == "full" or parameter.requires_grad:
            yield name, parameter


def write_result(trainee: Trainee, job: TrainJob, state: Mapping[str, torch.Tensor]) -> None:
    """Writes the adapter or the full model, and the head.

    Args:
        state: name to whole tensor of ``result_tensors``.

    Raises:
        TrainingError: weights that never moved: nothing was trained.
    """
    out = Path(job.out)
    prefix = _body_prefix(trainee)
    own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    if job.config["method"] == "full":
        save_model(trainee.body, trainee.tokenizer, out, own)
    else:
        _write_lora(trainee, own, out)
    classifier = classifier_of(trainee.module)
    if classifier is not None:
        save_head(classifier, state["classifier.score.weight"].float(), out)


def _body_prefix(trainee: Trainee) -> str:
    found = next(n for n, module in trainee.module.named_modules() if module is trainee.body)
    return f"{found}."


def _write_lora(trainee: Trainee, state: Mapping[str, torch.Tensor], out: Path) -> None:
    tensors = adapter_tensors(trainee.body, state)
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
