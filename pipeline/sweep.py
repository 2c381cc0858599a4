"""`gradus sweep`: settings tried out on validation; every compared arm gets the same trials.

A trial is the recipe with overrides, planned and executed as `gradus run` would, up to its
training and no further: nothing is evaluated, so no model sees a test row. What it trains lies in
the store under its own key, where `gradus run` with the same settings finds it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from pipeline.conduct import planned
from pipeline.core.digest import canonical_json, text_digest
from pipeline.core.errors import (
    DataError,
    GradusError,
    ModelError,
    RecipeError,
    TrainingError,
    UserError,
)
from pipeline.core.gpus import gpu_count
from pipeline.core.objectives import LOWER_IS_BETTER
from pipeline.core.recipe import LoadedRecipe, load_recipe
from pipeline.core.schema_sweep import Sweep, parse_space
from pipeline.core.store import Store
from pipeline.display import LiveDisplay
from pipeline.plan import Node, Plan
from pipeline.rehearsal import rehearse
from pipeline.run import execute, stage_pool, usable_cores
from pipeline.sweep_check import default_metric, require_metric, require_space
from pipeline.sweep_goal import Arm, arms_of, figures_of, problem_of, reduced, rows_of
from pipeline.sweep_space import Draw, override, proposals, trials_of, values_of
from pipeline.sweep_view import print_sweep, trial_line

# What settings can be to blame for; a full disk or a changed byte stops the sweep.
_OF_SETTINGS = (TrainingError, DataError, ModelError)


@dataclass(frozen=True)
class _Trial:
    """A proposal for one arm."""

    arm: Arm
    draw: Draw
    plan: Plan | None
    problem: str | None = None


def sweep_recipe(
    recipe: Path,
    overrides: Sequence[str],
    *,
    spaces: Sequence[str],
    trials: int | None,
    locked: bool,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Runs the trials that are missing and prints all. Exit code 1 where an arm has no figure.

    Raises:
        RecipeError: a space that no recipe could have; before anything runs.
    """
    store = Store()
    loaded = load_recipe(recipe, overrides)
    section = _section(loaded, spaces, trials)
    sweep = _Sweep(store, loaded, section, tuple(overrides), locked)
    with store.locked(f"sweep-{sweep.digest}", sweep.say_waiting):
        sweep.run(jobs)
    told = sweep.told()
    if as_json:
        click.echo(json.dumps(told))
    else:
        print_sweep(told)
    return 0 if all(arm["best"] is not None for arm in told["arms"].values()) else 1


def _section(loaded: LoadedRecipe, spaces: Sequence[str], trials: int | None) -> Sweep:
    """The recipe's section with what the command line says over it."""
    tree = (loaded.recipe.sweep or Sweep()).model_dump(by_alias=True, exclude_none=True)
    try:
        for text in spaces:
            key, dimension = parse_space(text)
            tree["space"][key] = dimension
        section = Sweep.model_validate(tree | ({"trials": trials} if trials else {}))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        words = str(problem["msg"]).removeprefix("Value error, ")
        text = f"{where}: {words}" if where else words
        # What is wrong with both together begins with its own place.
        own = text.startswith("trials: ")
        raise RecipeError(f"--{text}" if own else f"--space: {text}") from None
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if not section.space:
        raise loaded.error(
            "sweep.space",
            "nothing to try; write it in the recipe, or --space train.learning_rate=log:1e-5:1e-3",
        )
    return section


class _Sweep:
    """One recipe, one space, and the trials of each arm."""

    def __init__(
        self,
        store: Store,
        loaded: LoadedRecipe,
        section: Sweep,
        overrides: tuple[str, ...],
        locked: bool,
    ) -> None:
        self.store, self.loaded, self.section = store, loaded, section
        self._overrides, self._locked = overrides, locked
        train = loaded.recipe.train
        if train is None:
            raise loaded.error("train", "the recipe trains nothing; sweep one that does")
        base = self._plan({})
        self.arms = tuple(arms_of(base, section))
        require_metric(loaded, section, self.arms)
        self._shared = require_space(loaded, section, self.arms, base, self._plan)
        rehearse(reduced([(base, arm.nodes) for arm in self.arms])[0], store)
        about = section.model_dump(mode="json", by_alias=True, exclude={"trials"})
        keys = {arm.name: [base.nodes[node].key for node in arm.nodes] for arm in self.arms}
        self.digest = text_digest(canonical_json([about, keys]))[:16]
        self.file = f"sweeps/{loaded.recipe.name}-{self.digest}.json"

    def say_waiting(self, holder: str) -> None:
        """Another process is at the same sweep."""
        click.echo(f"waits for {holder}, which runs the same sweep", err=True)

    def run(self, jobs: int | None) -> None:
        """Rounds of trials until every arm has its number."""
        self._read()
        wanted, at_once = trials_of(self.section), self.section.at_once
        side_by_side = 1 if gpu_count() else min(usable_cores(), len(self.arms) * at_once)
        with stage_pool(jobs or side_by_side) as pool:
            while (done := len(self.arms[0].records)) < wanted:
                # Rounds begin at the same trials, however many a stopped sweep wanted.
                count = min(at_once - done % at_once, wanted - done)
                made = [trial for arm in self.arms for trial in self._proposed(arm, count)]
                self._round(made, pool)

    def told(self) -> dict[str, Any]:
        """The trials as JSON values, best first."""
        arms = {}
        for arm in self.arms:
            lower = self._metric(arm.records) in LOWER_IS_BETTER
            good = [r for r in arm.records[: trials_of(self.section)] if r["figure"] is not None]
            good.sort(key=lambda r: (r["figure"] if lower else -r["figure"], r["number"]))
            lost = [r for r in arm.records if r["figure"] is None]
            arms[arm.name] = {
                "recipe": str(arm.recipe),
                "metric": self._metric(arm.records),
                "trials": good + lost,
                "best": good[0] if good else None,
                "set": self._line(good[0]["values"]) if good else None,
            }
        return {
            "name": self.loaded.recipe.name,
            "file": str(self.store.root / self.file),
            "trials": trials_of(self.section),
            "space": list(self.section.space),
            "control": self.loaded.recipe.evaluate.control is not None,
            "same_rows": len({r["rows"] for arm in self.arms for r in arm.records} - {None}) <= 1,
            "arms": arms,
        }

    def _read(self) -> None:
        path = self.store.root / self.file
        known = json.loads(path.read_text(encoding="utf-8"))["arms"] if path.is_file() else {}
        for arm in self.arms:
            arm.records[:] = known.get(arm.name, [])

    def _line(self, values: Mapping[str, Any]) -> list[str]:
        swept = [override(key, value) for key, value in values.items()]
        return [*self._overrides, *swept]

    def _plan(self, values: Mapping[str, Any]) -> Plan:
        line = self._line(values)
        return planned(self.loaded.path, self.store, line, locked=self._locked)

    def _metric(self, records: Iterable[Mapping[str, Any]]) -> str | None:
        """What is compared; unknown until a first model says what its head is."""
        found = next((r["metric"] for r in records if r["metric"] is not None), None)
        return self.section.metric or found

    def _proposed(self, arm: Arm, count: int) -> list[_Trial]:
        before = [(dict(record["draw"]), record["figure"]) for record in arm.records]
        lower = self._metric(arm.records) in LOWER_IS_BETTER
        found = []
        for draw in proposals(self.section, before, count, lower_is_better=lower):
            try:
                plan = self._plan(values_of(self.section, draw))
            except UserError as error:
                # Each value is valid by itself: these do not go together.
                found.append(_Trial(arm, draw, None, f"refused: {error}"))
            else:
                found.append(_Trial(arm, draw, plan))
        return found

    def _round(self, trials: Sequence[_Trial], pool: Any) -> None:
        sound = [trial for trial in trials if trial.plan is not None]
        goal, nodes = reduced([(t.plan, t.arm.nodes) for t in sound if t.plan is not None])
        lost: dict[str, str] = {}

        def on_failure(node: str, error: GradusError) -> bool:
            blamed = isinstance(error, _OF_SETTINGS) and goal.nodes[node].key not in self._shared
            lost[node] = str(error)
            return blamed

        if sound:
            with LiveDisplay(goal, self.store) as display:
                record = execute(
                    goal, self.store, on_event=display.on_event, on_failure=on_failure, pool=pool
                )
        for trial in trials:
            known: dict[str, Any] = {"problem": trial.problem, "seconds": 0.0}
            if trial.plan is not None:
                mine = nodes[sound.index(trial)]
                known = {
                    "problem": problem_of(goal, mine, lost),
                    "seconds": sum(record.ran.get(node, 0.0) for node in mine),
                }
                if known["problem"] is None:
                    known |= self._judged(trial.arm, [goal.nodes[node] for node in mine])
            self._note(trial, known)
        told = {arm.name: arm.records for arm in self.arms}
        self.store.write_json(self.file, {"recipe": str(self.loaded.path), "arms": told})

    def _note(self, trial: _Trial, known: Mapping[str, Any]) -> None:
        records = trial.arm.records
        empty: dict[str, Any] = {
            "figure": None,
            "metric": None,
            "figures": {},
            "keys": [],
            "rows": None,
        }
        values = values_of(self.section, trial.draw)
        entry = {"number": len(records), "values": values, "draw": trial.draw, **empty, **known}
        records.append(entry)
        click.echo(trial_line(trial.arm.name, entry, trials_of(self.section)), err=True)

    def _judged(self, arm: Arm, trained: Sequence[Node]) -> dict[str, Any]:
        """Validation's figures of a setting: means over its seeds."""
        artifacts = [self.store.need(node.key or "") for node in trained]
        each = [figures_of(a.path, a.manifest.facts, a.manifest.config) for a in artifacts]
        head = artifacts[0].path / "head.json"
        single = head.is_file() and json.loads(head.read_text("utf-8"))["kind"] == "single"
        metric = self.section.metric or default_metric(arm.objective, single=single)
        means = {name: sum(f[name] for f in each) / len(each) for name in each[0]}
        if metric not in means:
            raise UserError(f"sweep.metric: {metric} was not measured of {trained[0].id}; use loss")
        return {
            "figure": means[metric],
            "metric": metric,
            "figures": means,
            "keys": [artifact.key for artifact in artifacts],
            "rows": rows_of(self.store, artifacts[0].manifest.inputs["data"]["key"]),
        }
