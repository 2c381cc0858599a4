"""What pydantic says of a recipe, as one line: file:line: key: what (value); remedy."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.core.errors import RecipeError
from pipeline.core.recipe_tree import shown
from pipeline.core.schema import Recipe

# pydantic puts the arm of a union it tried into the place: a class, a type or a validator.
_ARM = re.compile(r"^(Source|Carve|RecipeSuite)$|\[")


def readable(error: ValidationError, path: Path, places: Mapping[str, str]) -> RecipeError:
    """The problem that says most, with its place and a remedy."""
    problem = _telling(error.errors(include_url=False))
    *sections, last = [str(part) for part in problem["loc"]] or [""]
    # An unknown key is the user's own word, whatever it looks like.
    loc = [part for part in sections if not _ARM.search(part)]
    loc += [last] if problem["type"] == "extra_forbidden" or not _ARM.search(last) else []
    key = ".".join(loc)
    place = place_of(key, path, places)
    value = problem.get("input")
    text = json.dumps(value, default=str, ensure_ascii=False)
    text = text if len(text) <= 80 else text[:77] + "..."
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(last, set(_known_keys(loc[:-1])) - {last}, 1)
        remedy = f"did you mean {near[0]}?" if near else "remove it (see `gradus schema`)"
        return RecipeError(f"{place}: {key}: unknown key (value {text}); {remedy}")
    if problem["type"] == "missing":
        return RecipeError(f"{place}: {key}: missing; add it (`gradus schema` explains it)")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return RecipeError(f"{place}: {key or 'recipe'}: {message}; see `gradus schema`")
    return RecipeError(f"{place}: {key or 'recipe'}: {message}, and it is {text}; change it")


def place_of(key: str, path: Path, places: Mapping[str, str]) -> str:
    """Where ``key``, or the nearest section around it, was written."""
    while key and key not in places:
        key = key.rpartition(".")[0]
    return places.get(key, shown(path))


def _telling(problems: Sequence[Any]) -> Any:
    """Of each union the arm with the fewest unknown keys was meant; then the deepest place."""
    unknown = Counter(_arm(p) for p in problems if p["type"] == "extra_forbidden")
    fewest = min(unknown[_arm(p)] for p in problems)
    meant = [p for p in problems if unknown[_arm(p)] == fewest or _arm(p) == ()]
    return max(meant, key=lambda p: (p["type"] == "extra_forbidden", len(p["loc"])))


def _arm(problem: Any) -> tuple[Any, ...]:
    loc = problem["loc"]
    own = problem["type"] == "extra_forbidden"
    sections = loc[:-1] if own else loc
    last = max((i for i, part in enumerate(sections) if _ARM.search(str(part))), default=-1)
    return tuple(loc[: last + 1])


def _known_keys(loc: Iterable[str]) -> list[str]:
    models: list[type[BaseModel]] = [Recipe]
    for part in loc:
        found = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        # An index or a free name (evaluate.suites.NAME) stays with the models around it.
        models = [m for annotation in found for m in _models_in(annotation)] or models
    return [name for model in models for name in model.model_fields]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)
