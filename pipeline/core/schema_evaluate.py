"""How a recipe's models are judged: suites, arms, rungs, what is measured beside, and promises."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.core.gate_bounds import BOUNDS, NAMES, OF_TEXT, RELATIVE, TEXT_RUNGS, Metric, Rung
from pipeline.core.schema_data import NO_WEIGHT, Source
from pipeline.core.schema_section import Section, Seed, as_list

ChosenArm = Literal[
    "classifier", "generate", "constrained", "likelihood", "joint", "joint_untrained"
]
Reference = Literal["tfidf_bayes", "tfidf_logreg", "nearest", "zero_shot", "few_shot", "retrieved"]
GateArm = Literal[
    "classifier", "generate", "constrained", "likelihood", "likelihood_mean", "joint",
    "joint_untrained", "tagger", "regressor",
]  # fmt: skip
Share = Annotated[float, Field(gt=0, le=1)]


class RecipeSuite(Section):
    """A suite that is another recipe's test split."""

    recipe: str


class LearningCurve(Section):
    """Both forms trained on parts of the rows, and with some labels made wrong."""

    shares: tuple[Share, ...] = Field(
        (0.01, 0.03, 0.1, 0.3, 1.0), min_length=1, description="Of the training rows"
    )
    flipped: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        (0.0, 0.1, 0.2), description="Shares of training labels made wrong, with all rows"
    )
    seeds: tuple[Seed, ...] | None = Field(
        None, min_length=1, description="Of rows and trainings; default: train.seeds"
    )


class Judge(Section):
    """A model behind an OpenAI-compatible endpoint that says which of two answers is better."""

    url: str = Field(pattern=r"^https?://")
    model: str = Field(min_length=1)
    key_env: str | None = Field(None, description="Environment variable that holds the key")


class Generated(Section):
    """Generated text in three sides: quality, diversity, speed."""

    suites: tuple[str, ...] = Field((), description="Names of suites; default: all open answers")
    samples: int = Field(200, ge=1, description="Items of each suite, drawn by train.seeds")
    temperature: float = Field(
        0.7, ge=0, le=2, description="Of open answers; instructions are answered greedily"
    )
    max_new_tokens: int = Field(256, ge=1, description="Of one text")
    endpoint: str | None = Field(
        None, pattern=r"^https?://", description="Where speed is measured at 1, 8 and 32 requests"
    )
    endpoint_key_env: str | None = Field(
        None, description="Environment variable that holds the endpoint's key"
    )
    judge: Judge | None = None


class Risks(Section):
    """What the risk page measures beyond what the recipe's own data can tell."""

    bbq: str | None = Field(None, description="A file or folder of BBQ rows")
    harmful: str | None = Field(None, description="A file of prompts that should be refused")
    swaps: str | None = Field(None, description="A file of words to swap for one another")
    questions: str | None = Field(
        None, description="A file of questions, each with its context and its answer"
    )
    audit: str | None = Field(None, description="What `gradus audit privacy` wrote with --out")
    items: int = Field(200, ge=1, description="Test items for each line, drawn by train.seeds")
    price_per_hour: float | None = Field(None, gt=0, description="Of the device, for the cost")


class Evaluate(Section):
    """What a model is judged on, and how it is asked."""

    suites: dict[str, Source | RecipeSuite] = Field(
        default_factory=dict,
        description="Extra suites beside the recipe's own test split; rows labelled "
        "`out_of_scope` belong to none of the labels: how well a model tells them is measured",
    )
    control: str | None = Field(None, description="The same recipe straight over another base")
    arms: Annotated[tuple[ChosenArm, ...] | None, BeforeValidator(as_list)] = Field(
        None, description="Ways of asking; default: each objective's own"
    )
    forgetting: bool = Field(
        True,
        description="Ask general text and checkable instructions too, where no suite of the kind "
        "is named and the models can be asked",
    )
    references: Annotated[tuple[Reference, ...] | None, BeforeValidator(as_list)] = Field(
        None, description="Rungs that nobody trains, beside the models; default: all that fit"
    )
    encoder: str | None = Field(
        None, description="Reference nearest: a model folder or hub id; default: the base"
    )
    shots: int = Field(8, ge=1, description="Reference few_shot: rows that the base is shown")
    corpus: str | None = Field(
        None, description="Reference retrieved: a file of passages; default: those of the rows"
    )
    margin: float = Field(
        0.01, ge=0, lt=1, description="The recommended rung is worse than the best by no more"
    )
    confidence_bins: int = Field(15, ge=2, le=100, description="Of the calibration error")
    target_precision: Annotated[tuple[Share, ...], BeforeValidator(as_list)] = Field(
        (0.9, 0.95), description="Precisions for which a threshold is chosen on validation"
    )
    train_items: int = Field(
        200, ge=0, description="Training rows that are asked too: the gap to the test's figures"
    )
    learning_curve: LearningCurve | None = None
    generated: Generated | None = None
    risks: Risks | None = None
    batch_size: int = Field(64, ge=1)
    max_new_tokens: int = Field(24, ge=1)
    answer_after: str | None = Field(
        None, min_length=1, description="Open answers: what follows the last of these marks"
    )

    @model_validator(mode="after")
    def _sound(self) -> Evaluate:
        for name, suite in self.suites.items():
            if isinstance(suite, Source) and suite.weight is not None:
                raise ValueError(f"suites.{name}: {NO_WEIGHT}")
        if self.arms is not None and (not self.arms or len(set(self.arms)) != len(self.arms)):
            raise ValueError("arms: name each way of asking once, at least one")
        if self.references is None:
            return self
        if len(set(self.references)) != len(self.references):
            raise ValueError("references: one is named twice")
        if self.corpus is not None and "retrieved" not in self.references:
            raise ValueError("corpus is for reference retrieved; name it, or leave corpus out")
        if self.encoder is not None and "nearest" not in self.references:
            raise ValueError("encoder is for reference nearest; name it, or leave encoder out")
        return self


class GateSpec(Section):
    """One promise. Exactly one of superior_by, not_worse_by, at_most_ratio, at_least, at_most."""

    suite: str
    metric: Metric
    arm: GateArm | None = None
    against: Rung | Reference | GateArm = "none"
    superior_by: float | None = Field(None, ge=0)
    not_worse_by: float | None = Field(None, gt=0)
    at_most_ratio: float | None = Field(None, gt=0)
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> GateSpec:
        given = [name for name in NAMES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(NAMES)}")
        relative = given[0] in RELATIVE
        if relative == (self.against == "none"):
            raise ValueError(f"{given[0]} {'needs' if relative else 'refuses'} `against`")
        fit = [bound for bounds in BOUNDS[self.metric] for bound in bounds]
        if given[0] not in fit:
            raise ValueError(f"{self.metric} takes {' or '.join(fit)}, and not {given[0]}")
        if self.metric in OF_TEXT and self.against not in TEXT_RUNGS:
            raise ValueError(f"{self.metric} is measured against base or parent")
        if self.against == "chance" and self.metric != "accuracy":
            raise ValueError("chance is known of accuracy alone")
        return self
