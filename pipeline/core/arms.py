"""Ways of asking a model, and the rungs that it is measured against: one table for all.

A generative form models the text of the answer (or, as a channel, the text given the answer);
a discriminative form models P(label | text) alone (Ng and Jordan 2001).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Form = Literal["generative", "discriminative"]
Arm = Literal[
    "generate", "constrained", "likelihood", "likelihood_mean", "joint", "joint_untrained",
    "classifier", "tagger", "regressor", "channel", "text",
    "tfidf_bayes", "tfidf_logreg", "nearest", "zero_shot", "few_shot", "retrieved",
]  # fmt: skip


@dataclass(frozen=True)
class ArmInfo:
    """One way of answering.

    Attributes:
        form: what it models; None of a reader of text.
        name: what people call it, where a sentence begins or goes on.
        says: how it answers, in a few words.
        scores: it gives every label a log-probability.
        labels: it needs to know the labels there are.
        along: the arm whose pass over the model gives this one too.
        chosen: a recipe may name it in ``evaluate.arms``.
    """

    form: Form | None
    name: str
    says: str
    scores: bool = False
    labels: bool = False
    along: str | None = None
    chosen: bool = True


ARMS: Mapping[str, ArmInfo] = {
    "classifier": ArmInfo("discriminative", "classifier head", "a head's logits", scores=True),
    "generate": ArmInfo("generative", "free writing", "writes freely, read strictly"),
    "constrained": ArmInfo(
        "generative", "constrained writing", "writes nothing but a label", labels=True
    ),
    "likelihood": ArmInfo(
        "generative",
        "label likelihood",
        "the likeliest label, its end included",
        scores=True,
        labels=True,
    ),
    "likelihood_mean": ArmInfo(
        "generative",
        "label likelihood by token",
        "the likeliest label for each of its tokens",
        scores=True,
        labels=True,
        along="likelihood",
        chosen=False,
    ),
    "joint": ArmInfo(
        "generative", "joint model", "P(text | label) P(label)", scores=True, labels=True
    ),
    "joint_untrained": ArmInfo(
        "generative",
        "untrained joint model",
        "the same before its training",
        scores=True,
        labels=True,
    ),
    "tagger": ArmInfo("discriminative", "tagger", "a tag for each token", chosen=False),
    "regressor": ArmInfo("discriminative", "regressor", "a number", chosen=False),
    "channel": ArmInfo("generative", "channel", "reads a text told by its label", chosen=False),
    "text": ArmInfo(None, "reader", "reads text", chosen=False),
}

REFERENCES: Mapping[str, ArmInfo] = {
    "tfidf_bayes": ArmInfo(
        "generative", "TF-IDF naive Bayes", "naive Bayes over words", scores=True, labels=True
    ),
    "tfidf_logreg": ArmInfo(
        "discriminative",
        "TF-IDF logistic regression",
        "logistic regression over words",
        scores=True,
        labels=True,
    ),
    "nearest": ArmInfo(
        "discriminative",
        "nearest-neighbour vote",
        "the nearest rows of train",
        scores=True,
        labels=True,
    ),
    "zero_shot": ArmInfo(
        "generative", "zero-shot base", "the base, told the labels", scores=True, labels=True
    ),
    "few_shot": ArmInfo(
        "generative", "few-shot base", "the base, shown some rows", scores=True, labels=True
    ),
    "retrieved": ArmInfo("generative", "base with passages", "the base, given passages"),
}

FORM_NAMES: Mapping[str, Arm] = {"generative": "generate", "classifier": "classifier"}
"""A head, as DESIGN and reports name the two forms, and the arm by which it is judged first."""


def arm_name(arm: str) -> str:
    """A way of answering as people call it; one that no table has keeps its word."""
    found = ARMS.get(arm) or REFERENCES.get(arm)
    return arm.replace("_", " ") if found is None else found.name


def info_of(arm: str) -> ArmInfo:
    """What an arm or a reference is."""
    return ARMS[arm] if arm in ARMS else REFERENCES[arm]
