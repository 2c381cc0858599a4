"""What a sweep cannot be: refused by `gradus sweep` and by `gradus plan`, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.core.errors import RecipeError, UserError
from pipeline.core.objectives import OBJECTIVES
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema_sweep import Sweep
from pipeline.core.store import Store
from pipeline.ladder import make_plan
from pipeline.plan import Plan
from pipeline.sweep_goal import Arm, arms_of
from pipeline.sweep_space import override
from pipeline.train_plan import NOT_IN_KEY

Planned = Callable[[Mapping[str, Any]], Plan]
# The settings that say how large an objective's loss is, whatever was learned.
_SCALES: Mapping[str, tuple[str, ...]] = {
    "dpo": ("train.dpo_beta",),
    "mlm": ("train.mlm_probability",),
    "hybrid": ("train.hybrid", "train.loss_weighting"),
}
_OF_TOKENS = ("train.loss_weighting",)


def default_metric(objective: str, *, single: bool) -> str:
    """What trials are compared by where the recipe does not say.

    Args:
        single: the model has a head with one label.
    """
    if objective == "dpo":
        return "reward_accuracy"
    return "accuracy" if single else "loss"


def require_sweep(plan: Plan, store: Store, overrides: Sequence[str], *, locked: bool) -> None:
    """Refuses a recipe's own section that `gradus sweep` would refuse.

    Raises:
        RecipeError: one line.
    """
    section, loaded = plan.recipe.recipe.sweep, plan.recipe
    if section is None:
        return
    if loaded.recipe.train is None:
        raise loaded.error("sweep", "the recipe trains nothing; leave it out, or give it train")

    def planned(values: Mapping[str, Any]) -> Plan:
        line = [*overrides, *(override(key, value) for key, value in values.items())]
        return make_plan(loaded.path, store, line, locked=locked)

    arms = tuple(arms_of(plan, section))
    require_metric(loaded, section, arms)
    require_space(loaded, section, arms, plan, planned)


def require_metric(loaded: LoadedRecipe, section: Sweep, arms: Sequence[Arm]) -> None:
    """Refuses a measure that an arm does not have, and settings that scale what is measured.

    Raises:
        RecipeError: one line with what to set instead.
    """
    for arm in arms:
        measured = OBJECTIVES[arm.objective].measured
        if section.metric is not None and section.metric not in measured:
            raise loaded.error(
                "sweep.metric",
                f"{section.metric} is not measured for objective {arm.objective} ({arm.name}); "
                f"use one of {', '.join(measured)}, or leave it out",
            )
        # Only of classify there are heads with several labels, and it has no such setting.
        metric = section.metric or default_metric(
            arm.objective, single=arm.objective in {"classify", "hybrid"}
        )
        if metric == "loss":
            _require_one_scale(loaded, section, arm)


def _require_one_scale(loaded: LoadedRecipe, section: Sweep, arm: Arm) -> None:
    info = OBJECTIVES[arm.objective]
    scales = _SCALES.get(arm.objective, _OF_TOKENS if info.packs else ())
    for key in section.space:
        name, _, plain = key.rpartition(":")
        mine = not name or arm.nodes[0].startswith(f"{name}/")
        if mine and any(plain == scale or plain.startswith(f"{scale}.") for scale in scales):
            others = info.measures
            remedy = f"set sweep.metric: {others[0]}, or leave it out" if others else "leave it out"
            raise loaded.error(
                f"sweep.space.{key}",
                f"says how large the loss of objective {arm.objective} is, so that losses of two "
                f"trials cannot be compared; {remedy}",
            )


def require_space(
    loaded: LoadedRecipe, section: Sweep, arms: Sequence[Arm], base: Plan, planned: Planned
) -> set[str | None]:
    """Refuses values that no recipe could have, and keys that change nothing.

    Args:
        planned: the recipe's plan with some settings.

    Returns:
        Keys of the nodes that no setting changes.

    Raises:
        RecipeError: one line with the key.
    """
    shared = {node.key for node in base.nodes.values()}
    goals = [node for arm in arms for node in arm.nodes]
    for key, dimension in section.space.items():
        first, _, rest = key.rpartition(":")[2].partition(".")
        if first == "train" and rest.partition(".")[0] in NOT_IN_KEY:
            raise loaded.error(f"sweep.space.{key}", "changes no result; leave it out")
        seen = set()
        for value in dimension.outer:
            try:
                plan = planned({key: value})
            except UserError as error:
                raise RecipeError(f"sweep.space.{key}: {error}") from None
            seen.add(tuple(plan.nodes[node].key for node in goals))
            shared &= {node.key for node in plan.nodes.values()}
        # Over a base that is not locked yet there are no keys to compare.
        known = not any(None in keys for keys in seen)
        if known and len(seen) == 1 and len(dimension.outer) > 1:
            raise loaded.error(
                f"sweep.space.{key}",
                f"{dimension.outer[0]} and {dimension.outer[-1]} make the same training; "
                "leave it out",
            )
    return shared
