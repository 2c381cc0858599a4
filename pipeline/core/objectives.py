"""What can be trained: one table of objectives that plan, data, training and judgement share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.core.launch import own_config, to_paste

Render = Literal["text", "sft", "preference", "channel", "hybrid", "classify", "tag", "regress"]
Needs = Literal["causal", "encoder", "either"]


@dataclass(frozen=True)
class ObjectiveInfo:
    """One objective.

    Attributes:
        loss: what is minimised, in a few words.
        render: how `prepare` turns rows into ids.
        needs: the kind of base.
        writes: the model that comes out writes text (it can be served as a chat model).
        head: a head is trained and saved beside the weights.
        packs: rows may share a block.
        suffix: what its model's name has after the recipe's.
        arms: how its model answers a task, and so how it is judged: ``generate``,
            ``classifier``, ``tagger``, ``regressor``, ``channel``; none: it only reads text.
        measures: what validation counts beside the loss.
        forms: the formats of its rows; none: any from which its render can be made.
    """

    loss: str
    render: Render
    needs: Needs
    writes: bool
    head: bool = False
    packs: bool = False
    suffix: str = ""
    arms: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()

    @property
    def chats(self) -> bool:
        """Whether it learns to write an assistant's turns: a chat template renders its rows."""
        return self.writes and self.render != "text"

    @property
    def measured(self) -> tuple[str, ...]:
        """The names that may choose a best model or judge a sweep."""
        return ("loss", *self.measures)


_OF_LABELS = ("accuracy", "macro_f1", "micro_f1")

OBJECTIVES: Mapping[str, ObjectiveInfo] = {
    "pretrain": ObjectiveInfo("next token, from scratch", "text", "causal", True, packs=True),
    "cpt": ObjectiveInfo("next token, with replay", "text", "causal", True, packs=True),
    "mlm": ObjectiveInfo("masked tokens", "text", "encoder", False),
    "sft": ObjectiveInfo(
        "the assistant's tokens", "sft", "causal", True, packs=True, arms=("generate",)
    ),
    "dpo": ObjectiveInfo(
        "chosen above rejected", "preference", "causal", True, arms=("generate",),
        measures=("reward_accuracy",), forms=("preference",),
    ),
    "channel": ObjectiveInfo(
        "the text, given its label", "channel", "causal", True, packs=True, suffix="-channel",
        arms=("channel",), forms=("classification",),
    ),
    "hybrid": ObjectiveInfo(
        "the label's tokens and the head's label, one adapter", "hybrid", "causal", True,
        head=True, arms=("generate", "classifier"), measures=_OF_LABELS,
        forms=("classification",),
    ),
    "classify": ObjectiveInfo(
        "the head's label or labels", "classify", "either", False, head=True,
        suffix="-classifier", arms=("classifier",), measures=_OF_LABELS,
        forms=("classification",),
    ),
    "tag": ObjectiveInfo(
        "a label for each token", "tag", "either", False, head=True, suffix="-tagger",
        arms=("tagger",), measures=("accuracy", "entity_f1"), forms=("tagging",),
    ),
    "regress": ObjectiveInfo(
        "a number", "regress", "either", False, head=True, suffix="-regressor",
        arms=("regressor",), measures=("mae", "r2"), forms=("regression",),
    ),
}  # fmt: skip

OF_HEADS_ALONE: Mapping[str, str] = {
    form: name
    for name, info in OBJECTIVES.items()
    for form in info.forms
    if not any(form in other.forms and other.writes for other in OBJECTIVES.values())
}
"""Formats whose answers no model writes, and the objective whose head learns them."""

LOWER_IS_BETTER = frozenset({"loss", "mae"})
"""Of all measures; of the others more is better."""

PEFT_METHODS = ("lora", "qlora")


def model_name(recipe: str, objective: str) -> str:
    """The name of the model that a recipe makes with an objective."""
    return recipe + OBJECTIVES[objective].suffix


def cell_problem(objective: str, method: str, wrapper: str) -> str | None:
    """Why an objective, a method and a way of using processes do not go together, or None.

    Args:
        wrapper: ``single``, ``ddp``, ``fsdp`` or ``deepspeed``.
    """
    if objective == "pretrain" and method != "full":
        return (
            f"train.method: {method}: pretraining starts from random weights, which an adapter "
            "would leave random; use method full, or objective cpt over a trained base"
        )
    if method == "qlora" and wrapper in {"fsdp", "deepspeed"}:
        return (
            f"train.launch.config: {wrapper} cuts weights into shards, and 4-bit weights with "
            "their quantisation state have not been proved whole in shards; "
            f"use {to_paste(own_config('ddp'))}, or method lora"
        )
    return None


def pooling_problem(objective: str, pooling: str, *, causal: bool) -> str | None:
    """Why a head cannot read what `pooling` gives it, or None. Tags are read of every token."""
    pools = OBJECTIVES[objective].head and objective != "tag"
    if not (pools and causal and pooling == "cls"):
        return None
    return (
        "train.head.pooling: cls is the first token, which in a causal model sees no other: every "
        "row would look the same; use last or mean"
    )
