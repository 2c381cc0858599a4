"""What one evaluated model brings to a comparison, and how several are laid side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from eval.costs import Cost
from eval.metrics import label_figures
from eval.record import Kind, Prediction, TextLoss
from eval.scored import Scored, scored
from pipeline.core.arms import Arm
from pipeline.core.errors import IntegrityError

Level = Literal["L0", "L1", "L2"]
Role = Literal["model", "control", "parent", "base", "phase", "reference", "unquantised"]


@dataclass(frozen=True)
class ModelResult:
    """All that was measured of one set of weights.

    Attributes:
        name: the model's name, for people.
        level: its level.
        arm: the form in which it answers; `text` for a model that only reads text.
        role: `model` is what the recipe makes, `control` the same without the level between,
            `parent` what it was trained over, `base` the family's L0, `phase` an earlier training
            of the same recipe, `reference` a rung that no recipe trains, `unquantised` the model
            itself before an export in fewer bits.
        seed: the training seed; model and control of one seed are a pair.
        losses: suite > one row for each document.
        predictions: suite > one row for each item.
        kinds: suite > what its items ask for; one label where it says nothing (text has none).
        seconds: wall-clock seconds by step, such as `train` and `evaluate`.
        clusters: suite > item > what it shares with others, such as a document or a phrase;
            suites whose items stand by themselves are absent; `train` are the training rows.
        costs: suite > what answering it cost.
        held_out: `validation` and `train` > answers to items of these splits of the same data:
            temperatures are fitted on the one, and the other shows the gap to the test items.
    """

    name: str
    level: Level
    arm: Arm
    role: Role
    seed: int
    losses: Mapping[str, Sequence[TextLoss]] = field(default_factory=dict)
    predictions: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    clusters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)
    held_out: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)

    def kind(self, suite: str | None) -> Kind:
        """What the items of a suite ask for."""
        return self.kinds.get(suite or "", "label")

    def answers(self, suite: str) -> list[Prediction]:
        """The answers to a suite's items in the order of their ids, as every other model's."""
        if suite not in self._ordered:
            rows = sorted(self.predictions[suite], key=lambda prediction: prediction.example_id)
            self._ordered[suite] = rows
        return self._ordered[suite]

    def scored(self, suite: str) -> Scored | None:
        """The scores of these answers; None where the arm gives none."""
        if suite not in self._scored:
            self._scored[suite] = scored(self.answers(suite))
        return self._scored[suite]

    def label_figures(self, suite: str) -> Mapping[str, float]:
        """Accuracy and what goes with it, of items of one label."""
        if suite not in self._figures:
            self._figures[suite] = label_figures(self.predictions[suite])
        return self._figures[suite]

    # What is read of an evaluation many times is put in order once.
    @cached_property
    def _ordered(self) -> dict[str, list[Prediction]]:
        return {}

    @cached_property
    def _figures(self) -> dict[str, dict[str, float]]:
        return {}

    @cached_property
    def _scored(self) -> dict[str, Scored | None]:
        return {}


# What these know was not learned under this recipe's seeds.
_SEEDLESS: tuple[Role, ...] = ("base", "parent", "phase", "reference")

LABELLED: tuple[Kind, ...] = ("label", "labels")
"""Kinds whose answers are right or wrong as a whole."""


def title(result: ModelResult) -> str:
    """Names one result in an error: name, form and seed."""
    return f"{result.name} ({result.arm}, {result.role}, seed {result.seed})"


def check_same_items(results: Sequence[ModelResult]) -> None:
    """Refuses results that were measured on different items, documents or gold labels.

    Raises:
        IntegrityError: names the suite and both models.
    """
    first: dict[tuple[str, str], tuple[ModelResult, dict[str, object]]] = {}
    for result in results:
        for kind, suite, items in _all_items(result):
            reference, known = first.setdefault((kind, suite), (result, items))
            if items != known:
                odd = sorted(
                    key for key in items.keys() | known.keys() if items.get(key) != known.get(key)
                )
                raise IntegrityError(
                    f"suite {suite}: {title(result)} and {title(reference)} were measured on "
                    f"different {kind} ({len(odd)}, such as {odd[0]}); evaluate both again"
                )


def _all_items(result: ModelResult) -> Iterable[tuple[str, str, dict[str, object]]]:
    for suite, predictions in result.predictions.items():
        golds: dict[str, object] = {p.example_id: p.gold for p in predictions}
        _check_unique(result, suite, len(golds), len(predictions))
        yield "items", suite, golds
    for suite, losses in result.losses.items():
        tokens: dict[str, object] = {loss.example_id: loss.tokens for loss in losses}
        _check_unique(result, suite, len(tokens), len(losses))
        yield "documents", suite, tokens


def _check_unique(result: ModelResult, suite: str, unique: int, rows: int) -> None:
    if unique != rows:
        raise IntegrityError(
            f"suite {suite}: {title(result)} holds {rows} rows of {unique} items; "
            "every item belongs there once, evaluate it again"
        )
    if not rows:
        raise IntegrityError(f"suite {suite}: {title(result)} holds no rows; evaluate it again")


def correct_table(results: Sequence[ModelResult], suite: str) -> npt.NDArray[np.float64]:
    """Right (1) and wrong (0): one row for each result, items in the order of their ids."""
    right = [[p.label == p.gold for p in result.answers(suite)] for result in results]
    return np.array(right, dtype=float)


def clusters_in_order(result: ModelResult, suite: str) -> list[str] | None:
    """The cluster of each item in the order of their ids; None where each stands by itself."""
    of_item = result.clusters.get(suite)
    if not of_item:
        return None
    # An item that is not named stands by itself, and no cluster is called so.
    ids = (prediction.example_id for prediction in result.answers(suite))
    return [of_item.get(item, f"\0{item}") for item in ids]


def losses_in_order(result: ModelResult, suite: str) -> list[TextLoss]:
    """The documents of a suite in the order of their ids, as every other model's."""
    return sorted(result.losses[suite], key=lambda loss: loss.example_id)


def answering(
    results: Sequence[ModelResult], suite: str | None, arm: str, role: str
) -> list[ModelResult]:
    """Results of one form and role that have labelled a suite's items, one for each seed."""
    chosen = [
        result
        for result in results
        if result.arm == arm
        and result.role == role
        and suite in result.predictions
        and result.kind(suite) in LABELLED
    ]
    seeds: dict[int, ModelResult] = {}
    for result in chosen:
        if result.seed in seeds:
            raise IntegrityError(
                f"suite {suite}: {title(result)} and {title(seeds[result.seed])} are the same "
                "form, role and seed; keep one of them"
            )
        seeds[result.seed] = result
    return chosen


def by_model(results: Iterable[ModelResult]) -> list[list[ModelResult]]:
    """Results that differ in their seed alone, in the order of the first of each."""
    groups: dict[tuple[str, ...], list[ModelResult]] = {}
    for result in results:
        same = (result.name, result.level, result.arm, result.role)
        groups.setdefault(same, []).append(result)
    return list(groups.values())


def reading(
    results: Sequence[ModelResult], suite: str | None, roles: Sequence[str], level: str = ""
) -> ModelResult | None:
    """The first result with losses on a suite, in the order of the roles."""
    for role in roles:
        for result in results:
            if result.role == role and suite in result.losses and level in ("", result.level):
                return result
    return None


def paired(
    a: Sequence[ModelResult], b: Sequence[ModelResult]
) -> tuple[list[ModelResult], list[ModelResult]]:
    """The results of both sides that share a seed, in the same order."""
    by_seed = {result.seed: result for result in b}
    shared = [result for result in a if result.seed in by_seed]
    return shared, [by_seed[result.seed] for result in shared]


def matched(
    a: Sequence[ModelResult], b: Sequence[ModelResult]
) -> tuple[list[ModelResult], list[ModelResult]] | None:
    """Both sides as they are paired: by seed, or each against the one that has no seed to share.

    A base or a reference was not trained here: every seed of the other side stands against it.
    None where they share no seed.
    """
    ours, theirs = list(a), list(b)
    if any(len(side) == 1 and side[0].role in _SEEDLESS for side in (ours, theirs)):
        return ours, theirs
    ours, theirs = paired(ours, theirs)
    return (ours, theirs) if ours else None
