"""What a recipe may say of its sweep: which keys, between which ends, how often.

No part of any key: a sweep finds settings, and what it trains with them is kept by theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.core.schema_section import Section, Seed
from pipeline.core.schema_train import Measure

DEFAULT_TRIALS = 20
# What these say does not change a training, or is what every trial must share.
_NO_SETTING = {
    "name": "names the recipe",
    "level": "names the recipe",
    "evaluate": "is about the test, which a sweep never reads",
    "gates": "is about the test, which a sweep never reads",
    "serve": "is about serving",
    "sweep": "is the sweep itself",
    "data.test": "is the test, which a sweep never reads",
    "data.validation": "chooses the rows that trials are judged on",
    "train.seeds": "is chance, and no setting",
    "train.eval_steps": "is when trials are judged",
}  # fmt: skip
Ends = Annotated[tuple[float, float], Field(min_length=2, max_length=2)]


class Dimension(Section):
    """The values that one key may take. Exactly one of the four."""

    uniform: Ends | None = Field(None, description="Any number between the two")
    log: Ends | None = Field(None, description="The same, drawn by its logarithm")
    whole: tuple[int, int] | None = Field(
        None, alias="int", description="A whole number, both ends included"
    )
    choice: tuple[Any, ...] | None = Field(None, description="One of these values")

    @model_validator(mode="after")
    def _sound(self) -> Dimension:
        given = list(self.model_dump(by_alias=True, exclude_none=True))
        if len(given) != 1:
            raise ValueError("give exactly one of uniform, log, int, choice")
        if self.choice is not None:
            if not self.choice:
                raise ValueError("choice is empty; name at least one value")
            return self
        low, high = self.ends
        if not low < high:
            raise ValueError(f"{given[0]}: the first end must lie below the second")
        if self.log is not None and low <= 0:
            raise ValueError("log: both ends must be above 0")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends of a range of numbers."""
        ends = self.uniform or self.log or self.whole
        assert ends is not None
        return ends

    @property
    def points(self) -> Sequence[Any] | None:
        """Every value, where they can be counted; None for a range of real numbers."""
        if self.choice is not None:
            return self.choice
        return None if self.whole is None else range(self.whole[0], self.whole[1] + 1)

    @property
    def outer(self) -> tuple[Any, ...]:
        """What has to be valid by itself: every choice, or both ends."""
        return self.choice if self.choice is not None else self.ends


class Sweep(Section):
    """`gradus sweep`: settings tried out, judged on validation only."""

    trials: int | None = Field(
        None, ge=1, description="For each compared arm; default 20, of a grid all its points"
    )
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    seed: Seed = 0
    at_once: int = Field(
        1,
        ge=1,
        description="Trials proposed together, none knowing of the others: they may run side by "
        "side. --jobs changes no proposal, this does",
    )
    metric: Measure | None = Field(
        None,
        description="Of validation; default: accuracy of a head with one label, reward_accuracy "
        "of dpo, else loss",
    )
    seeds: Literal["first", "all"] = Field(
        "first", description="Judge the recipe's first training seed, or the mean over all"
    )
    space: dict[str, Dimension] = Field(
        default_factory=dict, description="Dotted key (NAME:KEY for a recipe below) to its values"
    )

    @field_validator("space")
    @classmethod
    def _settings_only(cls, space: dict[str, Dimension]) -> dict[str, Dimension]:
        for key in space:
            plain = key.rpartition(":")[2]
            for name, why in _NO_SETTING.items():
                if plain == name or plain.startswith(f"{name}."):
                    raise ValueError(f"{key}: cannot be swept: it {why}; leave it out")
        return space

    @model_validator(mode="after")
    def _grid_can_be_counted(self) -> Sweep:
        if self.sampler != "grid":
            return self
        for key, dimension in self.space.items():
            if dimension.points is None:
                raise ValueError(
                    f"space.{key}: a grid needs choice or int; a range has no end of points"
                )
        if self.trials is not None:
            raise ValueError("trials: a grid tries all its points; leave it out")
        return self


def parse_space(text: str) -> tuple[str, Mapping[str, Any]]:
    """One ``--space KEY=KIND:...`` as the section has it.

    Returns:
        The key and the dimension's mapping, not validated.

    Raises:
        ValueError: another form; the text says which is meant.
    """
    key, _, spec = text.partition("=")
    kind, _, values = spec.partition(":")
    if not key or kind not in {"uniform", "log", "int", "choice"} or not values:
        raise ValueError(
            f"--space {text}: write KEY=log:LOW:HIGH, uniform:LOW:HIGH, int:LOW:HIGH or "
            "choice:A,B,C"
        )
    if kind == "choice":
        return key, {kind: [_plain(word) for word in values.split(",")]}
    ends = [_plain(word) for word in values.split(":")]
    return key, {kind: ends}


def _plain(word: str) -> Any:
    """A word of the command line as YAML would have it, 1e-5 as a number too."""
    if word in {"true", "false"}:
        return word == "true"
    if re.fullmatch(r"[+-]?\d+", word):
        return int(word)
    try:
        return float(word)
    except ValueError:
        return word
