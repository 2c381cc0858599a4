"""What of a recipe's training changes its result, and what only how it is reached."""

from __future__ import annotations

from typing import Any

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.schema_train import Train

# Read by a running training, and in no key: another machine may set them otherwise.
_OPTIONS = {
    "micro_batch_size", "auto_micro_batch", "save_steps", "gradient_checkpointing", "attention",
    "compile", "resume", "report_to",
}  # fmt: skip
_NOT_IN_KEY = _OPTIONS | {"launch", "seeds"}
_ADAPTER_ONLY = {
    "lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora",
    "modules_to_save", "rank_pattern", "alpha_pattern",
}  # fmt: skip
# `prepare` reads them; `init_from` is an input of its own.
_ELSEWHERE = {"objective", "over_length", "packing", "loss_on", "init_from"}


def train_config(train: Train, objective: str) -> dict[str, Any]:
    """The training settings that change the result of ``objective``; no others."""
    info = OBJECTIVES[objective]
    unused = _NOT_IN_KEY | _ELSEWHERE
    if train.method == "full":
        unused = unused | _ADAPTER_ONLY
    if not info.head:
        unused = unused | {"head", "head_learning_rate"}
    if not info.packs and objective != "hybrid":
        unused = unused | {"loss_weighting"}
    for name, owner in (
        ("mlm_probability", "mlm"),
        ("dpo_beta", "dpo"),
        ("hybrid", "hybrid"),
    ):
        if objective != owner:
            unused = unused | {name}
    if train.max_steps is not None:
        unused = unused | {"num_train_epochs"}
    if train.warmup_steps is not None:
        unused = unused | {"warmup_ratio"}
    if not (train.load_best_model_at_end or train.early_stopping_patience):
        unused = unused | {"metric_for_best_model"}
    return {**train.model_dump(mode="json", exclude=unused), "objective": objective}


def train_options(train: Train) -> dict[str, Any]:
    """The settings that change how a result is reached, and not which."""
    return train.model_dump(mode="json", include=_OPTIONS)
