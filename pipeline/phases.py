"""Phases: trainings of the same recipe before its own, each over the one before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema_data import Source
from pipeline.core.schema_evaluate import Evaluate, RecipeSuite
from pipeline.core.schema_serve import Export, Serve


def phase_recipes(loaded: LoadedRecipe) -> Iterator[LoadedRecipe]:
    """Each phase before the recipe's own training, as a recipe of its own.

    It is named NAME.PHASE, has the phase's rows and settings, and no gates; where its keys
    were written stays known.
    """
    recipe = loaded.recipe
    merged: tuple[Export, ...] = ("merged",)
    for index, phase in enumerate(recipe.phases):
        update: dict[str, Any] = {
            "name": f"{recipe.name}.{phase.name}",
            "data": phase.data,
            "train": phase.train,
            "phases": (),
            "evaluate": Evaluate(suites=_judged_by(loaded)),
            "gates": (),
            # A phase stands over a new root where the recipe makes one; else the stack grows.
            "serve": Serve(export=merged if recipe.serve.export == merged else ("stacked",)),
            "export": None,
            "sweep": None,
        }
        head = f"phases.{index}."
        places = {k.removeprefix(head): p for k, p in loaded.places.items() if k.startswith(head)}
        yield replace(
            loaded,
            recipe=recipe.model_copy(update=update),
            places={**_without_own(loaded.places), **places},
        )


def _judged_by(loaded: LoadedRecipe) -> dict[str, Source | RecipeSuite]:
    """What the recipe is judged by: a phase's rows are compared with it and dropped from there.

    A test split that is carved of the recipe's own rows is not known yet; where a phase holds
    one of its rows, the recipe's own `prepare` stops.
    """
    found: dict[str, Source | RecipeSuite] = dict(loaded.recipe.evaluate.suites)
    data = loaded.recipe.data
    if data is not None and isinstance(data.test, Source):
        found[f"{loaded.recipe.name}-test"] = data.test
    return found


def _without_own(places: Any) -> dict[str, str]:
    """Places of what a phase shares with its recipe."""
    own = ("data", "train", "phases")
    return {k: p for k, p in places.items() if k.partition(".")[0] not in own}
