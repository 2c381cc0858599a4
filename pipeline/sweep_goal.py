"""What a trial makes, and what is read of it: a plan up to the training, and its validation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.core.digest import text_digest
from pipeline.core.errors import UserError
from pipeline.core.objectives import model_name
from pipeline.core.recipe import load_recipe
from pipeline.core.schema_sweep import Sweep
from pipeline.core.store import Store
from pipeline.plan import Node, Plan


@dataclass(frozen=True)
class Arm:
    """One model that the recipe compares, and its trials so far.

    Attributes:
        nodes: the trainings that judge a setting: the first seed's, or all seeds'.
        records: number, values, draw, figure, ... of each trial, in order.
    """

    name: str
    objective: str
    recipe: Path
    nodes: tuple[str, ...]
    records: list[dict[str, Any]]


def arms_of(plan: Plan, section: Sweep) -> Iterable[Arm]:
    """Each objective of the recipe, and of its control."""
    recipe = plan.recipe.recipe
    names = {recipe.name: plan.recipe.path}
    if recipe.evaluate.control is not None:
        control = plan.recipe.local(recipe.evaluate.control)
        names[load_recipe(control).recipe.name] = control
    assert recipe.train is not None
    seeds = recipe.train.seeds if section.seeds == "all" else recipe.train.seeds[:1]
    for name, path in names.items():
        for objective in recipe.train.objective:
            nodes = tuple(f"{name}/train.{objective}.seed{seed}" for seed in seeds)
            yield Arm(model_name(name, objective), objective, path, nodes, [])


def reduced(parts: Sequence[tuple[Plan, Sequence[str]]]) -> tuple[Plan, list[list[str]]]:
    """One plan of what the goals need; what several need, or have drawn twice, is in it once.

    Returns:
        The plan, and for each part its goals by their ids in the plan.
    """
    nodes: dict[str, Node] = {}
    by_key: dict[str, str] = {}
    goals: list[list[str]] = []
    for plan, wanted in parts:
        needed = set(wanted)
        for node in reversed(list(plan.nodes.values())):
            if node.id in needed:
                needed.update(node.inputs.values())
        names: dict[str, str] = {}
        for node in plan.nodes.values():
            if node.id not in needed:
                continue
            if node.key is None or node.key not in by_key:
                same = sum(known.partition("#")[0] == node.id for known in nodes)
                name = f"{node.id}#{same + 1}" if same else node.id
                inputs = {role: names[i] for role, i in node.inputs.items()}
                nodes[name] = replace(node, id=name, inputs=inputs)
                by_key[node.key or name] = name
            names[node.id] = by_key[node.key or node.id]
        goals.append([names[goal] for goal in wanted])
    everything = tuple(dict.fromkeys(goal for each in goals for goal in each))
    return Plan(parts[0][0].recipe, nodes, (), everything), goals


def problem_of(goal: Plan, nodes: Sequence[str], lost: Mapping[str, str]) -> str | None:
    """Why a trial came to nothing, or None."""
    below = set(nodes)
    for node in reversed(list(goal.nodes.values())):
        if node.id in below:
            below.update(node.inputs.values())
    return next((text for node, text in lost.items() if node in below), None)


def figures_of(
    folder: Path, facts: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, float]:
    """What validation measured of the weights that were kept."""
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    found = [r for r in map(json.loads, lines) if "validation_loss" in r]
    if config.get("load_best_model_at_end"):
        found = [r for r in found if r["step"] == facts["best_step"]]
    if not found:
        raise UserError(
            "data.validation: there are no validation rows to judge a trial by; carve more, "
            "or give a file"
        )
    names = (name for name in found[-1] if name.startswith("validation_"))
    return {name.removeprefix("validation_"): found[-1][name] for name in names}


def rows_of(store: Store, key: str) -> str:
    """Digest of which rows a trial was judged on."""
    from pipeline.data.arrow import read_rows

    rows = read_rows(store.path_of(key) / "validation.arrow", ["example_id"])
    return text_digest("\n".join(sorted(row["example_id"] for row in rows)))[:16]
