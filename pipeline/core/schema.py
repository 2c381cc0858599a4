"""What a recipe may say: every key, its type, its bounds and its meaning.

Frozen, unknown keys refused. The descriptions below are what ``gradus schema`` writes
into the JSON Schema for editors. Names are those of the Trainer, PEFT and Axolotl.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.schema_data import NO_WEIGHT, Data, Source
from pipeline.core.schema_section import Section, Seed, as_list
from pipeline.core.schema_sweep import Sweep
from pipeline.core.schema_train import Train

Level = Literal["L0", "L1", "L2"]
Export = Literal["stacked", "merged"]


class Scratch(Section):
    """An L0 made from nothing: a BPE tokenizer with chat markup and random weights."""

    architecture: Literal["qwen3"] = "qwen3"
    vocab_size: int = Field(2048, ge=300, le=200_000)
    hidden_size: int = Field(128, ge=32)
    num_hidden_layers: int = Field(4, ge=1)
    num_attention_heads: int = Field(4, ge=1)
    num_key_value_heads: int = Field(2, ge=1)
    intermediate_size: int = Field(384, ge=32)
    max_position_embeddings: int = Field(512, ge=32)
    seed: Seed = 0

    @model_validator(mode="after")
    def _heads_divide(self) -> Scratch:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        return self


def require_read(data: Data, objectives: set[str]) -> None:
    """Refuses what is said of rows and no objective would read.

    Raises:
        ValueError: the key, and what it is for.
    """
    if data.replay is not None and not objectives <= {"pretrain", "cpt"}:
        raise ValueError("data.replay mixes in text: it needs objective pretrain or cpt")
    if data.clean.balance.action == "weights" and "classify" not in objectives:
        raise ValueError(
            "data.clean.balance: weights are for objective classify, and no other reads them; "
            "take report or cap"
        )
    if data.features and "classify" not in objectives:
        raise ValueError(
            "data.features are joined to what objective classify's head reads, and no other "
            "objective reads them; leave them out"
        )


class RecipeSuite(Section):
    """A suite that is another recipe's test split."""

    recipe: str


class Evaluate(Section):
    """What a model is judged on."""

    suites: dict[str, Source | RecipeSuite] = Field(
        default_factory=dict, description="Extra suites beside the recipe's own test split"
    )
    control: str | None = Field(None, description="The same recipe straight over another base")
    batch_size: int = Field(64, ge=1)
    max_new_tokens: int = Field(24, ge=1)
    answer_after: str | None = Field(
        None, min_length=1, description="Open answers: what follows the last of these marks"
    )

    @model_validator(mode="after")
    def _weights_mix_training_rows_only(self) -> Evaluate:
        for name, suite in self.suites.items():
            if isinstance(suite, Source) and suite.weight is not None:
                raise ValueError(f"suites.{name}: {NO_WEIGHT}")
        return self


class GateSpec(Section):
    """One promise. Exactly one of superior_by, at_most_ratio, at_least, at_most."""

    suite: str
    metric: Literal[
        "accuracy", "loss", "contamination",
        "macro_f1", "micro_f1", "entity_f1", "mae", "preference_accuracy",
    ]  # fmt: skip
    head: Literal["generative", "classifier"] | None = None
    against: Literal["base", "parent", "control", "chance", "none"] = "none"
    superior_by: float | None = None
    at_most_ratio: float | None = Field(None, gt=0)
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> GateSpec:
        bounds = (self.superior_by, self.at_most_ratio, self.at_least, self.at_most)
        if sum(b is not None for b in bounds) != 1:
            raise ValueError("give exactly one of superior_by, at_most_ratio, at_least, at_most")
        relative = self.superior_by is not None or self.at_most_ratio is not None
        if relative == (self.against == "none"):
            raise ValueError("superior_by and at_most_ratio need `against`; the others refuse it")
        fit = {
            "accuracy": (self.superior_by, self.at_least),
            "loss": (self.at_most_ratio, self.at_most),
            "contamination": (self.at_most,),
            "mae": (self.at_most,),
        }.get(self.metric, (self.at_least,))
        if all(bound is None for bound in fit):
            raise ValueError(
                "accuracy takes superior_by or at_least, loss at_most_ratio or at_most, "
                "contamination and mae at_most, the others at_least"
            )
        if self.metric == "accuracy" and self.against in {"base", "parent"}:
            raise ValueError("accuracy is measured against control or chance")
        if self.metric == "loss" and self.against in {"control", "chance"}:
            raise ValueError("loss is measured against base or parent")
        return self


class Serve(Section):
    """What is exported and how it is served."""

    export: Annotated[tuple[Export, ...], BeforeValidator(as_list)] = ("stacked",)
    max_model_len: int = Field(1024, ge=16)


class Phase(Section):
    """A training before the recipe's own, over the same base: it goes on from the one before."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")
    data: Data
    train: Train

    @model_validator(mode="after")
    def _one_model(self) -> Phase:
        if len(self.train.objective) > 1 or len(self.train.seeds) > 1:
            raise ValueError("a phase trains one model: give it one objective and one seed")
        if OBJECTIVES[self.train.objective[0]].head:
            raise ValueError(
                f"objective {self.train.objective[0]} trains a head, which the next phase would "
                "leave behind; put it into the recipe's own train"
            )
        require_read(self.data, set(self.train.objective))
        return self


class Recipe(Section):
    """One YAML file: one model to make (NAME; with a head also NAME-classifier)."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    level: Level
    base: str | None = Field(
        None, min_length=1, description="Another recipe, a hub id, or a folder"
    )
    revision: str | None = Field(None, description="The base's hub revision; locked at first use")
    trust_remote_code: bool = Field(
        False, description="Run the code that the base brings with it; read that code first"
    )
    scratch: Scratch | None = None
    data: Data | None = None
    train: Train | None = None
    phases: tuple[Phase, ...] = Field(
        (), description="Trainings before `train`, in order, each with rows and settings of its own"
    )
    evaluate: Evaluate = Evaluate()
    gates: tuple[GateSpec, ...] = ()
    serve: Serve = Serve()
    sweep: Sweep | None = None

    @model_validator(mode="after")
    def _whole(self) -> Recipe:
        if (self.base is None) == (self.scratch is None):
            raise ValueError("give exactly one of base or scratch")
        if self.trust_remote_code and self.base is None:
            raise ValueError("trust_remote_code is for a base that brings code; leave it out")
        if self.scratch is not None and self.level != "L0":
            raise ValueError(f"scratch makes an L0, and this recipe is {self.level}")
        if (self.train is None) != (self.data is None):
            raise ValueError("data and train come together")
        if self.train is None and (self.level != "L0" or self.scratch is not None):
            raise ValueError("only an L0 with a base may leave out data and train")
        if self.train is None and (self.gates or self.evaluate != Evaluate()):
            raise ValueError("evaluate and gates need train: nothing would be judged")
        if self.data is not None and self.train is not None:
            require_read(self.data, set(self.train.objective))
        if self.phases and self.train is None:
            raise ValueError("phases come before train; give it")
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError("phases: two of one name; give each its own")
        first = self.phases[0].train if self.phases else self.train
        if self.scratch is not None and first is not None and first.method != "full":
            raise ValueError("scratch weights are random: train.method must be full")
        return self


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, `extends` included."""
    tree = Recipe.model_json_schema()
    tree["title"] = "gradus recipe"
    tree["properties"]["extends"] = {
        "type": "string",
        "description": "A recipe whose keys hold where this one says nothing",
    }
    # With `extends` any key may come from below, so an editor must not demand it here.
    tree.pop("required", None)
    return tree
