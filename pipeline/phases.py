"""What a training starts from beside its base: phases of the same recipe, another's adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema import Evaluate, Export, RecipeSuite, Serve
from pipeline.core.schema_data import Source
from pipeline.core.schema_train import Train

# PEFT's key to the recipe's: what must agree for one adapter to be trained on as another.
_SAME = {
    "r": "lora_r", "lora_alpha": "lora_alpha", "use_rslora": "use_rslora",
    "use_dora": "use_dora", "rank_pattern": "rank_pattern", "alpha_pattern": "alpha_pattern",
}  # fmt: skip
# As the format's own readers have it.
_LONGEST_HEADER = 100_000_000


class _AdapterConfig(BaseModel):
    """What is read of an adapter_config.json; strict, so that no word passes for a number."""

    model_config = ConfigDict(strict=True)

    r: int = Field(ge=1)
    lora_alpha: float = Field(gt=0)
    use_rslora: bool | None = False
    use_dora: bool | None = False
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    target_modules: list[str] | str | None = None


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
                f"{name}: {_differs(key, theirs, ours)}",
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
    problem = _torn(folder / "adapter_model.safetensors") or _other_form(config, train)
    if problem is not None:
        raise loaded.error("train.init_from", f"{folder.name}: {problem}")
    return folder


def _other_form(config: Mapping[str, Any], train: Train) -> str | None:
    """Why the adapter cannot be trained on as the recipe's, or None."""
    try:
        found = _AdapterConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        return f"adapter_config.json: {key}: {first['msg']}; name a LoRA adapter that PEFT wrote"
    here: dict[str, Any] = {ours: getattr(train, ours) for ours in _SAME.values()}
    here["lora_alpha"] = train.lora_alpha or 2.0 * train.lora_r
    for key, ours in _SAME.items():
        theirs, mine = getattr(found, key) or 0, here[ours] or 0
        if theirs != mine:
            return _differs(ours, theirs, mine)
    # PEFT writes names where all-linear was asked for: only a list can be compared with a list.
    theirs, mine = found.target_modules, train.target_modules
    if isinstance(theirs, list) and not isinstance(mine, str) and set(theirs) != set(mine):
        return _differs("target_modules", sorted(theirs), sorted(mine))
    return None


def _differs(key: str, theirs: Any, mine: Any) -> str:
    return (
        f"its {key} is {_shown(theirs)}, and here it is {_shown(mine)}; "
        f"set train.{key}: {_shown(theirs)}"
    )


def _torn(file: Path) -> str | None:
    """Why a safetensors file cannot be whole, by its header and its size; or None."""
    remedy = "it is cut short or no safetensors file; copy it again"
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 2 <= length <= _LONGEST_HEADER else None
        size = file.stat().st_size
    except (OSError, ValueError, RecursionError):
        header, size = None, 0
    if not isinstance(header, dict):
        return f"{file.name}: no header that can be read; {remedy}"
    try:
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
    except (TypeError, KeyError, IndexError, ValueError):
        return f"{file.name}: its header does not say where tensors lie; {remedy}"
    if end != size or not tensors:
        return f"{file.name}: {size} bytes, and its header tells of {end}; {remedy}"
    return None


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
