"""An adapter that a training goes on from: of the recipe's form, and whole; asked by the plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.adapter_form import form_of_adapter, form_of_settings, form_problem
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema_train import Train


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


def require_same_form(loaded: LoadedRecipe, other: Train, name: str) -> None:
    """Refuses to train on the adapter of another recipe that is of another form.

    Raises:
        RecipeError: the first setting that differs, and what to set.
    """
    mine = loaded.recipe.train
    assert mine is not None
    problem = form_problem(*(form_of_settings(train.model_dump()) for train in (other, mine)))
    if problem is not None:
        raise loaded.error("train.init_from", f"{name}: {problem}")


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
    weights = folder / "adapter_model.safetensors"
    if not isinstance(config, dict) or not weights.is_file():
        raise loaded.error(
            "train.init_from",
            f"{folder.name}: no adapter there (adapter_config.json and adapter_model.safetensors); "
            "name a recipe or an adapter's folder",
        )
    problem = _torn(weights) or _other_form(config, train)
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
    theirs, mine = form_of_adapter(found.model_dump()), form_of_settings(train.model_dump())
    # Only a list can be compared with a list: PEFT writes names where all-linear was asked for.
    if isinstance(found.target_modules, list) and not isinstance(train.target_modules, str):
        theirs["target_modules"] = sorted(set(found.target_modules))
    return form_problem(theirs, mine)


def _torn(file: Path) -> str | None:
    """Why a safetensors file cannot be whole, by its header and its size; or None."""
    from safetensors import SafetensorError, safe_open

    remedy = "it is cut short or no safetensors file; copy it again"
    try:
        # Reads the header alone; "numpy" needs no torch.
        with safe_open(str(file), framework="numpy") as stored:
            return None if list(stored.keys()) else f"{file.name}: holds no tensor; {remedy}"
    except (OSError, SafetensorError) as error:
        return f"{file.name}: {error}; {remedy}"
