"""What a recipe may say: every key, its type, its bounds and its meaning.

Frozen, unknown keys refused. The descriptions below are what ``gradus schema`` writes
into the JSON Schema for editors. Names are those of the Trainer, PEFT and Axolotl.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.schema_data import Data
from pipeline.core.schema_evaluate import Evaluate, GateSpec
from pipeline.core.schema_export import Quantised
from pipeline.core.schema_section import Section, Seed
from pipeline.core.schema_serve import Serve
from pipeline.core.schema_sweep import Sweep
from pipeline.core.schema_train import Train

Level = Literal["L0", "L1", "L2"]


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
    licence: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Of the model that is made, for its card; none: that of its base",
    )
    data: Data | None = None
    train: Train | None = None
    phases: tuple[Phase, ...] = Field(
        (), description="Trainings before `train`, in order, each with rows and settings of its own"
    )
    evaluate: Evaluate = Evaluate()
    gates: tuple[GateSpec, ...] = ()
    serve: Serve = Serve()
    export: Quantised | None = Field(
        None, description="The first objective's model, merged and in fewer bits, gated again"
    )
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
        if self.export is not None and not self.gates:
            raise ValueError(
                "export: nothing is exported of which nothing was promised; give gates"
            )
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
