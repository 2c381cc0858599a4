"""A plan: ordered stages with keys, known in full before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.core.recipe import LoadedRecipe
from pipeline.core.stage import stage_key
from pipeline.core.store import Store


@dataclass(frozen=True)
class Node:
    """One stage with its settings.

    Attributes:
        id: readable and unique in the plan, e.g. ``demo-intents/train.sft.seed1``.
        stage: name in core.stage.STAGES.
        config: settings that change the result.
        inputs: role to the id of the node that makes it.
        files: role to a local input file or folder.
        options: settings that do not change the result.
        key: None where it cannot be known yet (a hub revision that is not locked).
        blocked: why it cannot run here, or None.
        note: what the plan prints beside it.
        rank: of the stacked adapter that it makes; 0 where it makes none.
    """

    id: str
    stage: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    blocked: str | None = None
    note: str = ""
    rank: int = 0


@dataclass(frozen=True)
class ModelRef:
    """A model as served: one root, and at most one stacked adapter over it."""

    name: str
    level: str
    root: str
    adapter: str | None = None
    rank: int = 0


@dataclass(frozen=True)
class Outcome:
    """A named model that a recipe makes.

    Attributes:
        merged, report, bundle, export: node ids, None where the recipe makes none.
    """

    model: ModelRef
    objective: str
    base: str
    recipe: Path
    merged: str | None = None
    report: str | None = None
    bundle: str | None = None
    export: str | None = None


@dataclass(frozen=True)
class Built:
    """What one recipe came to.

    Attributes:
        start: what its training starts from (its base as served).
        models: (objective, seed) to the trained model as served.
        prepared: objective to its Dataset node.
        ancestors: recipes below it, nearest first.
        tokenizer: the node whose output holds the family's tokenizer.
    """

    loaded: LoadedRecipe
    start: ModelRef
    models: Mapping[tuple[str, int], ModelRef]
    prepared: Mapping[str, str]
    ancestors: tuple[Built, ...]
    tokenizer: str

    @property
    def phases(self) -> list[Built]:
        """The trainings of the same recipe before its last, nearest first."""
        return [b for b in self.ancestors if b.loaded.path == self.loaded.path]

    @property
    def below(self) -> list[ModelRef]:
        """What the recipe's model stands on, nearest first, down to the L0 itself.

        One model for each recipe below: phases are steps on the way to it.
        """
        finals = {b.loaded.path: b.first for b in reversed(self.ancestors)}
        finals.pop(self.loaded.path, None)
        chain = list(reversed(finals.values()))
        last = (self, *self.ancestors)[-1]
        # What scratch starts from is random weights: the L0 is what was trained of them.
        if last.loaded.recipe.scratch is None:
            chain.append(last.start)
        return [m for i, m in enumerate(chain) if m not in chain[:i] and m != self.first]

    @property
    def first_objective(self) -> str:
        """The objective of the model that a recipe above stands on."""
        train = self.loaded.recipe.train
        return "fetch" if train is None else train.objective[0]

    @property
    def first(self) -> ModelRef:
        """The model that a recipe above stands on: first objective, first seed."""
        train = self.loaded.recipe.train
        if train is None:
            return self.start
        return self.models[(train.objective[0], train.seeds[0])]


def outcome_of(built: Built, objective: str, **refs: str | None) -> Outcome:
    """The named model of one objective: its first seed."""
    train = built.loaded.recipe.train
    model = built.start if train is None else built.models[(objective, train.seeds[0])]
    base = "scratch" if built.loaded.recipe.scratch is not None else built.start.name
    return Outcome(model, objective, base, built.loaded.path, **refs)


@dataclass(frozen=True)
class Plan:
    """Every stage that a recipe needs, in an order that can run.

    Attributes:
        notes: what a person should know before anything runs, a line each.
    """

    recipe: LoadedRecipe
    nodes: Mapping[str, Node]
    outcomes: tuple[Outcome, ...]
    gates: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def status(self, store: Store) -> dict[str, str]:
        """Node id to ``hit``, ``run``, ``waits`` or ``cannot run``; nothing is written.

        What waits stands on something of a hub that `gradus run` is yet to resolve.
        """
        found: dict[str, str] = {}
        for node in self.nodes.values():
            if node.key is not None and store.get(node.key) is not None:
                found[node.id] = "hit"
                continue
            below = {found[i] for i in node.inputs.values()}
            if node.blocked not in (None, UNLOCKED) or "cannot run" in below:
                found[node.id] = "cannot run"
            elif node.blocked == UNLOCKED or "waits" in below:
                found[node.id] = "waits"
            else:
                found[node.id] = "run"
        return found

    def wanted(self, store: Store) -> list[Node]:
        """The nodes that must run, in order: what no missing output needs is left out."""
        needed: set[str] = set()
        for node in reversed(list(self.nodes.values())):
            goal = node.id in self._goals or node.id in needed
            if goal and (node.key is None or store.get(node.key) is None):
                needed.add(node.id)
                needed.update(node.inputs.values())
        return [
            n
            for n in self.nodes.values()
            if n.id in needed and (n.key is None or store.get(n.key) is None)
        ]

    @property
    def _goals(self) -> set[str]:
        goals = set(self.gates)
        for outcome in self.outcomes:
            model = outcome.model
            refs = (model.root, model.adapter, outcome.merged, outcome.report, outcome.bundle,
                    outcome.export)  # fmt: skip
            goals.update(ref for ref in refs if ref is not None)
        return goals

    def width(self) -> int:
        """How many trainings could run side by side: by depth, over the whole plan.

        Taken from the plan and not from what is left of it, so that a resumed run uses as
        many threads as an undisturbed one and makes the same bytes.
        """
        depth: dict[str, int] = {}
        counts: dict[int, int] = {}
        for node in self.nodes.values():
            training = node.stage.startswith("train")
            depth[node.id] = training + max((depth[i] for i in node.inputs.values()), default=0)
            if training:
                counts[depth[node.id]] = counts.get(depth[node.id], 0) + 1
        return max(counts.values(), default=1)

    def lone(self) -> frozenset[str]:
        """Trainings beside which no other could run: each other comes before or stands on them.

        A chain's first levels are such, and every core can be theirs. Taken from the plan, as
        the width is.
        """
        above: dict[str, frozenset[str]] = {}
        trainings = {n.id for n in self.nodes.values() if n.stage.startswith("train")}
        for node in self.nodes.values():
            # What was made before may stand for what it was made of: it is no node then.
            above[node.id] = frozenset(node.inputs.values()).union(
                *(above.get(i, ()) for i in node.inputs.values())
            )
        return frozenset(
            one
            for one in trainings
            if all(two in above[one] or one in above[two] for two in trainings - {one})
        )


def with_keys(nodes: Iterable[Node], store: Store) -> dict[str, Node]:
    """Computes keys from the roots on; a node over an unknown key has none."""
    keyed: dict[str, Node] = {}
    for node in nodes:
        inputs = {role: keyed[i].key for role, i in node.inputs.items()}
        known = {role: key for role, key in inputs.items() if key is not None}
        if node.blocked == UNLOCKED or len(known) < len(inputs):
            keyed[node.id] = node
            continue
        digests = {role: store.digests.of(path) for role, path in node.files.items()}
        keyed[node.id] = replace(node, key=stage_key(node.stage, node.config, known, digests))
    return keyed


UNLOCKED = "its hub revision is not locked yet; `gradus run` resolves and locks it"
