"""What a training starts from beside its base: phases of the same recipe, another's adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema import Evaluate, Export, RecipeSuite, Serve
from pipeline.core.schema_data import Source
from pipeline.core.schema_train import Train

# PEFT's key to the recipe's: what must agree for one adapter to be trained on as another.
_SAME = {"r": "lora_r", "use_rslora": "use_rslora", "use_dora": "use_dora"}


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


def require_same_form(loaded: LoadedRecipe, other: Train, name: str) -> None:
    """Refuses to train on the adapter of another recipe that is of another form.

    Raises:
        RecipeError: the first setting that differs, and what to set.
    """
    mine = loaded.recipe.train
    assert mine is not None
    keys = (
        "method", "lora_r", "lora_alpha", "use_rslora", "use_dora", "target_modules",
        "rank_pattern", "alpha_pattern", "modules_to_save",
    )  # fmt: skip
    for key in keys:
        theirs, ours = getattr(other, key), getattr(mine, key)
        if theirs != ours:
            raise loaded.error(
                "train.init_from",
                f"{name}: its {key} is {_shown(theirs)}, and here it is {_shown(ours)}; "
                f"set train.{key}: {_shown(theirs)}",
            )


def adapter_folder(loaded: LoadedRecipe, folder: Path) -> Path:
    """A folder with an adapter to train on.

    Raises:
        RecipeError: none there, or one of another form.
    """
    train = loaded.recipe.train
    assert train is not None
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    whole = isinstance(config, dict) and (folder / "adapter_model.safetensors").is_file()
    if not whole:
        raise loaded.error(
            "train.init_from",
            f"{folder.name}: no adapter there (adapter_config.json and adapter_model.safetensors); "
            "name a recipe or an adapter's folder",
        )
    for key, ours in _SAME.items():
        theirs, mine = config.get(key) or 0, getattr(train, ours) or 0
        if theirs != mine:
            raise loaded.error(
                "train.init_from",
                f"{folder.name}: its {ours} is {_shown(theirs)}, and here it is {_shown(mine)}; "
                f"set train.{ours}: {_shown(theirs)}",
            )
    return folder


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
