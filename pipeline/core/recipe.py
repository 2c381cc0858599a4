"""Recipes from disk: YAML with line numbers, `extends`, `--set`, and errors one can act on."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.core.errors import RecipeError
from pipeline.core.schema import Recipe

_LEVELS = ("L0", "L1", "L2")
_PATH_KEYS = {"path", "base", "control", "recipe", "chat_template", "config"}
_MOST_VALUES = 10_000
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
        return _place(key, self.path, self.places)

    def error(self, key: str, message: str) -> RecipeError:
        """A RecipeError that opens with the place of ``key``."""
        return RecipeError(f"{self.place(key)}: {key}: {message}")

    def local(self, value: str) -> Path:
        """``value`` as a path relative to the recipe's folder."""
        return (self.path.parent / Path(value).expanduser()).resolve()


def shown(path: Path) -> str:
    """``path`` relative to the working folder where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def looks_like_hub_id(value: str) -> bool:
    """Whether ``value`` has the form owner/name of a hub repository and no file suffix."""
    suffix = Path(value).suffix
    return bool(_HUB_ID.match(value)) and suffix not in {
        ".yaml", ".yml", ".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet",
    }  # fmt: skip


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Reads one recipe.

    Args:
        path: the YAML file.
        overrides: ``key.path=value`` or ``NAME:key.path=value`` texts; the second form
            applies only where the recipe's name is NAME. Values are read as YAML.

    Raises:
        RecipeError: missing file, broken YAML, unknown key, wrong value; with place and remedy.
    """
    tree, places = _read_tree(path.resolve(), ())
    name = str(tree.get("name", ""))
    for text in overrides:
        key, value = parse_override(text, name)
        if key is not None:
            _put(tree, key, value, text)
            places[key] = f"--set {key}"
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise _readable(error, path, places) from None
    return LoadedRecipe(recipe, path.resolve(), places)


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
        value = _parsed(raw, f"--set {key[:60]}", {})
    except yaml.YAMLError:
        value = raw
    if key.rpartition(".")[2] in _PATH_KEYS and isinstance(value, str) and Path(value).exists():
        # What a user types on the command line is relative to where the user stands.
        value = str(Path(value).resolve())
    return key, value


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 2e-4 as a number (YAML 1.1 does not)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?(?:[eE][-+]?\d+)$|^[-+]?\d[\d_]*\.\d*$|^[-+]?\.\d+$"),
    list("-+0123456789."),
)


def _read_tree(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    if path in above:
        circle = " -> ".join(shown(p) for p in (*above, path))
        raise RecipeError(f"{shown(path)}: extends: makes a circle ({circle}); remove one link")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{shown(path)}: no such recipe; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{shown(path)}: cannot be read ({error}); save it as UTF-8") from None
    places: dict[str, str] = {}
    try:
        tree = _parsed(text, shown(path), places)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError(f"{shown(path)}{line}: not YAML: {problem}; mend that line") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{shown(path)}: not a recipe: it holds no `key: value` lines")
    return _extend(path, tree, places, above)


def _extend(
    path: Path, tree: dict[str, Any], places: dict[str, str], above: tuple[Path, ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    parent = tree.pop("extends", None)
    if parent is None:
        return tree, places
    if not isinstance(parent, str):
        raise RecipeError(f"{places['extends']}: extends: {parent!r} is not a path to a recipe")
    target = (path.parent / parent).resolve()
    if not target.is_file():
        raise RecipeError(f"{places['extends']}: extends: {parent}: no such recipe")
    under, under_places = _read_tree(target, (*above, path))
    for key in ("base", "evaluate", "data"):
        _rebase_paths(under.get(key), target.parent, path.parent)
    if isinstance(under.get("base"), str):
        under["base"] = _moved(under["base"], target.parent, path.parent)
    return _merged(under, tree), {**under_places, **places}


def _rebase_paths(tree: Any, old: Path, new: Path) -> None:
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in _PATH_KEYS and isinstance(value, str):
                tree[key] = _moved(value, old, new)
            else:
                _rebase_paths(value, old, new)


def _moved(value: str, old: Path, new: Path) -> str:
    return str((old / value).resolve()) if old != new and (old / value).exists() else value


def _merged(under: Any, over: Any) -> Any:
    if isinstance(under, dict) and isinstance(over, dict):
        joined = dict(under)
        for key, value in over.items():
            joined[key] = _merged(under[key], value) if key in under else value
        return joined
    return over


def _parsed(text: str, file: str, places: dict[str, str]) -> Any:
    """One YAML document; ``places`` learns where each of its keys was written."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _note_places(loader, node, "", file, places)
        return loader.construct_document(node)
    except RecursionError:
        raise RecipeError(f"{file}: nested too deep for a recipe; write it flat") from None


def _note_places(
    loader: _Loader, node: yaml.Node, key: str, file: str, places: dict[str, str]
) -> None:
    place = f"{file}:{node.start_mark.line + 1}"
    # An alias is visited wherever it stands, so this bounds what a few nested ones unfold to.
    if len(places) > _MOST_VALUES:
        raise RecipeError(f"{place}: {key[:60]}: more than {_MOST_VALUES} values with its aliases "
                          "written out; use fewer aliases")  # fmt: skip
    if isinstance(node, yaml.ScalarNode):
        try:
            loader.construct_object(node)
        except (ValueError, OverflowError):
            raise RecipeError(f"{place}: {key}: {node.value[:40]!r} is out of range; "
                              "change it or put it in quotes") from None  # fmt: skip
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            text = str(getattr(name, "value", ""))
            line = name.start_mark.line + 1
            if text in seen:
                raise RecipeError(f"{file}:{line}: {text}: written twice; keep one")
            seen.add(text)
            inner = f"{key}.{text}" if key else text
            places[inner] = f"{file}:{line}"
            _note_places(loader, value, inner, file, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            inner = f"{key}.{index}"
            places[inner] = f"{file}:{value.start_mark.line + 1}"
            _note_places(loader, value, inner, file, places)


def _put(tree: dict[str, Any], key: str, value: Any, text: str) -> None:
    *sections, last = key.split(".")
    here: Any = tree
    for section in sections:
        if isinstance(here, list) and section.isdigit() and int(section) < len(here):
            here = here[int(section)]
        elif isinstance(here, dict):
            here = here.setdefault(section, {})
        else:
            raise RecipeError(f"--set {text}: {section} is not a section of the recipe")
    if isinstance(here, list) and last.isdigit() and int(last) < len(here):
        here[int(last)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise RecipeError(f"--set {text}: {last} has no place in the recipe")


def _readable(error: ValidationError, path: Path, places: Mapping[str, str]) -> RecipeError:
    """The first problem as one line: file:line: key: what (value); remedy."""
    problems = error.errors(include_url=False)
    # A union reports each of its arms: an unknown key or the deepest place says most.
    problem = max(problems, key=lambda p: (p["type"] == "extra_forbidden", len(p["loc"])))
    loc = [str(part) for part in problem["loc"] if str(part) not in {"Source", "Carve"}]
    loc = [part for part in loc if part not in {"RecipeSuite", "literal['all-linear']"}]
    key = ".".join(loc)
    value = problem.get("input")
    text = json.dumps(value, default=str, ensure_ascii=False)
    text = text if len(text) <= 80 else text[:77] + "..."
    place = _place(key, path, places)
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(loc[-1], _known_keys(loc[:-1]), 1)
        remedy = f"did you mean {near[0]}?" if near else "remove it (see `gradus schema`)"
        return RecipeError(f"{place}: {key}: unknown key (value {text}); {remedy}")
    if problem["type"] == "missing":
        return RecipeError(f"{place}: {key}: missing; add it (`gradus schema` explains it)")
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(value, dict):
        return RecipeError(f"{place}: {key or 'recipe'}: {message}")
    return RecipeError(f"{place}: {key or 'recipe'}: {message}, and it is {text}; change it")


def _place(key: str, path: Path, places: Mapping[str, str]) -> str:
    while key and key not in places:
        key = key.rpartition(".")[0]
    return places.get(key, shown(path))


def _known_keys(loc: Iterable[str]) -> list[str]:
    model: type[BaseModel] | None = Recipe
    for part in loc:
        found = model.model_fields.get(part) if model else None
        if found is None:
            continue
        model = next((m for m in _models_in(found.annotation)), None)
    return list(model.model_fields) if model else []


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)


def level_above(level: str, base_level: str) -> bool:
    """Whether a recipe of ``level`` may stand over a base of ``base_level``."""
    return _LEVELS.index(level) >= _LEVELS.index(base_level)
