"""Recipes from disk: YAML with line numbers, `extends`, `--set`, and errors one can act on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.core.default_suites import with_default_suites
from pipeline.core.errors import RecipeError
from pipeline.core.recipe_problems import place_of, readable, said
from pipeline.core.recipe_tree import (
    PATH_KEYS,
    local_path,
    parsed,
    read_tree,
    shown,
    stands_here,
)  # fmt: skip
from pipeline.core.schema import Recipe

__all__ = [
    "LoadedRecipe", "level_above", "load_recipe", "looks_like_hub_id", "parse_override", "shown",
]  # fmt: skip

RECIPES = (".yaml", ".yml")
_LEVELS = ("L0", "L1", "L2")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe and where each of its values was written.

    Attributes:
        recipe: the validated recipe.
        path: its file, absolute.
        places: dotted key to ``file:line`` (or ``--set key``).
    """

    recipe: Recipe
    path: Path
    places: Mapping[str, str] = field(repr=False)

    def place(self, key: str) -> str:
        """Where ``key`` (or the nearest section around it) was written."""
        return place_of(key, self.path, self.places)

    def error(self, key: str, message: str) -> RecipeError:
        """A RecipeError that opens with the place of ``key``."""
        return RecipeError(said(self.place(key), f"{key}: {message}"))

    def local(self, value: str) -> Path:
        """``value`` as a path relative to the recipe's folder."""
        return local_path(self.path.parent, value, shown(self.path))


def looks_like_hub_id(value: str) -> bool:
    """Whether ``value`` has the form owner/name of a hub repository and no file suffix."""
    suffix = Path(value).suffix
    return bool(_HUB_ID.match(value)) and suffix not in {
        ".yaml", ".yml", ".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet",
    }  # fmt: skip


def load_recipe(
    path: Path, overrides: Sequence[str] = (), *, below: frozenset[Path] = frozenset()
) -> LoadedRecipe:
    """Reads one recipe.

    Args:
        path: the YAML file.
        overrides: ``key.path=value`` or ``NAME:key.path=value`` texts; the second form
            applies only where the recipe's name is NAME. Values are read as YAML.
        below: recipes that stand over this one and are being read.

    Raises:
        RecipeError: missing file, broken YAML, unknown key, wrong value; with place and remedy.
    """
    tree, places = read_tree(path.resolve())
    name = str(tree.get("name", ""))
    for text in overrides:
        key, value = parse_override(text, name)
        if key is not None:
            _put(tree, key, value, text)
            _note_override(key, places)
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise readable(error, path, places, tree) from None
    loaded = LoadedRecipe(recipe, path.resolve(), places)
    _require_paths(tree, "", loaded)
    above = _parent(loaded, below | {loaded.path})
    told = None if above is None else (above.recipe, above.path)
    return replace(loaded, recipe=with_default_suites(recipe, loaded.path.parent, told))


def _parent(loaded: LoadedRecipe, seen: frozenset[Path]) -> LoadedRecipe | None:
    """The recipe that ``base`` names; None where there is none, or none that can be read.

    What is wrong with it is told when the plan reads it.
    """
    recipe = loaded.recipe
    if recipe.base is None or recipe.train is None or not recipe.evaluate.forgetting:
        return None
    path = loaded.local(recipe.base).resolve()
    if path.suffix not in RECIPES or not path.is_file() or path in seen:
        return None
    try:
        return load_recipe(path, below=seen)
    except RecipeError:
        return None


def parse_override(text: str, name: str) -> tuple[str | None, Any]:
    """Splits one ``--set``; the key is None where it is meant for another recipe."""
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {text!r}: no value; write --set train.lora_r=32")
    target, colon, rest = key.partition(":")
    if colon:
        if target != name:
            return None, None
        key = rest
    try:
        value = parsed(raw, f"--set {key[:60]}", {})
    except yaml.YAMLError:
        value = raw
    return key, stands_here(value, key)


def _note_override(key: str, places: dict[str, str]) -> None:
    places[key] = f"--set {key}"
    above = key.rpartition(".")[0]
    while above:
        places.setdefault(above, f"--set {key}")
        above = above.rpartition(".")[0]


def _require_paths(tree: Any, key: str, loaded: LoadedRecipe) -> None:
    """Every path of the recipe is one that a file system takes; it need not exist."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for name, value in pairs:
        inner = f"{key}.{name}" if key else str(name)
        if isinstance(value, dict | list):
            _require_paths(value, inner, loaded)
        elif name in PATH_KEYS and isinstance(value, str):
            local_path(loaded.path.parent, value, said(loaded.place(inner), inner))


def _put(tree: dict[str, Any], key: str, value: Any, text: str) -> None:
    *sections, last = key.split(".")
    here: Any = tree
    for section in sections:
        if isinstance(here, list) and section.isdigit() and int(section) < len(here):
            here = here[int(section)]
        elif isinstance(here, dict) and not section.isdigit():
            here = here.setdefault(section, {})
        else:
            raise RecipeError(
                f"--set {text}: the recipe has no section {section!r} there; see `gradus schema`"
            )
    if isinstance(here, list) and last.isdigit() and int(last) < len(here):
        here[int(last)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise RecipeError(
            f"--set {text}: {last!r} has no place in the recipe there; see `gradus schema`"
        )


def level_above(level: str, base_level: str) -> bool:
    """Whether a recipe of ``level`` may stand over a base of ``base_level``."""
    return _LEVELS.index(level) >= _LEVELS.index(base_level)
