"""The learning curve of a plan: the recipe's own chain again, over fewer rows or wrong labels.

Nothing of a point is planned anew. Each is a copy of the nodes by which the recipe trains,
exports and evaluates, with another training split put into their place: settings, test and
validation rows are the recipe's own by construction. The point of all rows with their own labels
is the recipe's own model; it does not run twice.

What is held fixed is the training's budget. With `max_steps` every point makes as many updates.
With epochs their number is divided by the share, so that every point reads as many rows as the
whole training does and makes at least as many updates: else a small share would be judged by how
little it was trained, and not by how little it was shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.schema_evaluate import LearningCurve
from pipeline.judged_beside import rung_node, rung_rows
from pipeline.judgement_arms import asked_arms, evaluation_label
from pipeline.plan import Built, Node

if TYPE_CHECKING:
    from pipeline.ladder import Ladder

TEXTBOOK = ("tfidf_bayes", "tfidf_logreg")
"""The generative and the discriminative learner of Ng and Jordan (2001), over words."""
# A label-writer with few rows is asked for the likeliest label where the recipe asks so: what it
# writes freely would tell whether it learned the form of an answer.
_WRITERS = ("likelihood", "constrained", "generate")
# Renders of rows with one label each.
_OF_LABELS = ("sft", "hybrid", "classify", "channel")
_MARK = "/curve."
_DIGITS = 6


@dataclass(frozen=True)
class Curve:
    """What the comparison is given of a learning curve.

    Attributes:
        inputs: role to node: ``curveN`` the Report of point N, ``curve_dataN`` a Dataset.
        config: ``points`` in the order of their roles, and ``budget``: what is held fixed.
    """

    inputs: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Point:
    """How many rows, and with how many wrong labels."""

    share: float
    flipped: float
    seed: int

    @property
    def whole(self) -> bool:
        """Whether it is the recipe's own training split."""
        return self.share == 1 and not self.flipped

    @property
    def name(self) -> str:
        """As ids of nodes end."""
        what = f"flipped{self.flipped:g}" if self.flipped else f"share{self.share:g}"
        return f"{what}.seed{self.seed}"

    @property
    def note(self) -> str:
        """As the plan prints it."""
        if self.flipped:
            return f"{self.flipped:.3g} of the labels flipped"
        return f"{self.share:.3g} of the rows"


def curve_stage(node: str) -> str | None:
    """``RECIPE/curve.STAGE`` of a point of a learning curve, by its id; None of any other node."""
    head, mark, tail = node.partition(_MARK)
    return f"{head}{mark}{tail.partition('.')[0]}" if mark else None


def add_curve(ladder: Ladder, built: Built, suites: Mapping[str, str]) -> Curve:
    """Adds the nodes of a recipe's learning curve; its own evaluations must be there.

    Args:
        suites: name to format.

    Raises:
        RecipeError: rows that cannot be thinned by their label, or nobody who would learn them.
    """
    loaded = built.loaded
    recipe, section = loaded.recipe, loaded.recipe.evaluate.learning_curve
    if section is None:
        return Curve()
    assert recipe.train is not None
    answering = list(_answering(built))
    if suites.get("test") != "classification" or not answering:
        raise loaded.error(
            "evaluate.learning_curve",
            "thins rows by their label: it needs data of format classification, data.test, and "
            "an objective that answers with a label; leave it out",
        )
    made = _Made(ladder, built)
    for point in _points(section, recipe.train.seeds):
        for objective, arm in answering:
            made.model(point, objective, arm)
        for name in TEXTBOOK:
            made.reference(point, name)
    steps = recipe.train.max_steps
    budget = {"num_train_epochs": recipe.train.num_train_epochs} if steps is None else {
        "max_steps": steps
    }  # fmt: skip
    return Curve(made.inputs, {"points": made.points, "budget": budget})


def _answering(built: Built) -> Iterator[tuple[str, str]]:
    """(objective, arm) that are followed along the curve: one arm of each form of a model."""
    recipe = built.loaded.recipe
    assert recipe.train is not None
    for objective in recipe.train.objective:
        if OBJECTIVES[objective].render not in _OF_LABELS:
            continue
        asked = asked_arms(objective, recipe.evaluate)
        writer = next((arm for arm in _WRITERS if arm in asked), None)
        for arm in asked:
            if arm in {"classifier", "joint", writer}:
                yield objective, arm


def _points(section: LearningCurve, seeds: tuple[int, ...]) -> Iterator[_Point]:
    """Shares, then flips of all rows; all rows with their own labels are always among them."""
    for seed in section.seeds or seeds:
        for share in sorted({*section.shares, 1.0}):
            yield _Point(share, 0.0, seed)
        for flipped in sorted({*section.flipped} - {0.0}):
            yield _Point(1.0, flipped, seed)


class _Made:
    """The nodes of one curve as they are added."""

    def __init__(self, ladder: Ladder, built: Built) -> None:
        self._ladder, self._built = ladder, built
        recipe = built.loaded.recipe
        assert recipe.train is not None
        self._name, self._train = recipe.name, recipe.train
        self._data: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        self.points: list[dict[str, Any]] = []

    def model(self, point: _Point, objective: str, arm: str) -> None:
        """One arm of one objective's model at one point."""
        own = self._train.seeds[0]
        if point.whole and point.seed in self._train.seeds:
            own = point.seed
        report = f"{self._name}/evaluate.{evaluation_label(objective, arm, own)}"
        prepared = data = self._built.prepared[objective]
        if not point.whole:
            data = self._prepared(point, prepared)
        if not (point.whole and point.seed == own):
            swaps = {prepared: data}
            self._trained(point, objective, own, swaps)
            name = f"{self._name}{_MARK}evaluate.{objective}-{arm}.{point.name}"
            # The gap to training rows is told of the recipe's own models.
            config = (
                {"train_items": 0} if "train_items" in self._ladder.nodes[report].config else {}
            )
            report = self._copied(report, name, swaps, config)
        self._judged(point, arm, report, data)

    def reference(self, point: _Point, name: str) -> None:
        """A rung that learns from the same rows; it draws nothing, so all rows need one seed."""
        if point.whole and any(one["arm"] == name and one["share"] == 1 for one in self.points):
            return
        own = self._rung(name)
        prepared, report = own.inputs["data"], own.id
        data = prepared if point.whole else self._prepared(point, prepared)
        if not (point.whole and own.id in self._ladder.nodes):
            stem = f"{self._name}{_MARK}reference.{name}.{point.name}"
            # A point that is missing would be a hole in the curve.
            config = {**own.config, "named": True}
            inputs = {**own.inputs, "data": data}
            copy = replace(own, id=stem, config=config, inputs=inputs, note=point.note)
            report = self._ladder.add(copy)
        self._judged(point, name, report, data)

    def _rung(self, name: str) -> Node:
        """The recipe's own reference, or what it would be."""
        known = self._ladder.nodes.get(f"{self._name}/reference.{name}")
        if known is not None:
            return known
        data = rung_rows(self._built)
        assert data is not None
        return rung_node(self._built, name, {"data": data}, {})

    def _judged(self, point: _Point, arm: str, report: str, data: str) -> None:
        self.inputs[f"curve{len(self.points)}"] = report
        role = self._data.setdefault(data, f"curve_data{len(self._data)}")
        self.inputs[role] = data
        about = {"share": point.share, "flipped": point.flipped, "seed": point.seed}
        self.points.append({"arm": arm, **about, "data": role})

    def _prepared(self, point: _Point, prepared: str) -> str:
        node = self._ladder.nodes[prepared]
        thin = {"share": point.share, "flipped": point.flipped, "seed": point.seed}
        config = {**node.config, "thin": thin}
        name = f"{self._name}{_MARK}prepare.{node.config['render']}.{point.name}"
        return self._ladder.add(replace(node, id=name, config=config, note=point.note))

    def _trained(self, point: _Point, objective: str, own: int, swaps: dict[str, str]) -> None:
        """The training and what is exported of it; ``swaps`` then leads to both."""
        stem = f"{self._name}{_MARK}{{}}.{objective}.{point.name}"
        trained = f"{self._name}/train.{objective}.seed{own}"
        config: dict[str, Any] = {"seed": point.seed}
        if self._train.max_steps is None:
            config["num_train_epochs"] = round(self._train.num_train_epochs / point.share, _DIGITS)
        self._copied(trained, stem.format("train"), swaps, config, point.note)
        model = self._built.models[(objective, own)]
        exported = model.adapter or model.root
        if exported != trained:
            stage = self._ladder.nodes[exported].stage
            self._copied(exported, stem.format(stage), swaps)

    def _copied(
        self,
        node_id: str,
        name: str,
        swaps: dict[str, str],
        config: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> str:
        """A node again over other inputs; suites stay, for all points are judged alike."""
        node = self._ladder.nodes[node_id]
        inputs = {
            role: i if role.startswith("suite.") else swaps.get(i, i)
            for role, i in node.inputs.items()
            if not role.startswith("suite.") or role == "suite.test"
        }
        copy: Node = replace(
            node, id=name, config={**node.config, **(config or {})}, inputs=inputs, note=note
        )
        swaps[node_id] = self._ladder.add(copy)
        return swaps[node_id]
