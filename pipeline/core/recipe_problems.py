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


# Types as pydantic names them, in words of YAML.
_WRITE = {
    "tuple_type": "a list", "list_type": "a list", "bool_type": "true or false",
    "bool_parsing": "true or false",
}  # fmt: skip
_TAIL = re.compile(r", (unable to (parse|interpret)|got a number with) .*$")


def readable(
    error: ValidationError, path: Path, places: Mapping[str, str], tree: Any
) -> RecipeError:
    """The problem that says most, with its place and a remedy.

    Args:
        tree: the recipe as it was written.
    """
    problem = _telling(error.errors(include_url=False))
    *sections, last = [str(part) for part in problem["loc"]] or [""]
    # An unknown key is the user's own word, whatever it looks like.
    loc = [part for part in sections if not _ARM.search(part)]
    loc += [last] if problem["type"] == "extra_forbidden" or not _ARM.search(last) else []
    if last.isdigit() and not isinstance(_written(tree, loc[:-1]), list | dict):
        # One word stands for a list of one; nobody wrote an index.
        loc = loc[:-1]
    key = ".".join(loc)
    text = json.dumps(problem.get("input"), default=str, ensure_ascii=False)
    text = text if len(text) <= 80 else text[:77] + "..."
    message = _message(problem, loc, last, text)
    return RecipeError(said(place_of(key, path, places), f"{key or 'recipe'}: {message}"))


def _message(problem: Any, loc: Sequence[str], last: str, text: str) -> str:
    kind = problem["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(last, set(_known_keys(loc[:-1])) - {last}, 1)
        remedy = f"did you mean {near[0]}?" if near else "remove it (see `gradus schema`)"
        return f"unknown key (value {text}); {remedy}"
    if kind == "missing":
        return "missing; add it (`gradus schema` explains it)"
    if kind == "value_error":
        return f"{problem['msg'].removeprefix('Value error, ')}; see `gradus schema`"
    if kind in _WRITE:
        return f"write {_WRITE[kind]}, and not {text}"
    message = _TAIL.sub("", problem["msg"].replace("Input should", "must"))
    if kind == "less_than_equal" and {"lora_r", "rank_pattern"} & set(loc):
        message = f"must be at most {problem['ctx']['le']}, the engine's largest rank"
    remedy = "change it"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        near = difflib.get_close_matches(str(problem.get("input")), words, 1)
        remedy = f"did you mean {near[0]}?" if near else remedy
    return f"{message}, and it is {text}; {remedy}"


def _written(tree: Any, loc: Sequence[str]) -> Any:
    """What the recipe says at a place, or None; one value may stand for a list of one."""
    for part in loc:
        if isinstance(tree, dict):
            tree = tree.get(part)
        elif isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        elif part != "0":
            return None
    return tree


def said(place: str, text: str) -> str:
    """``text``, which opens with a key, behind its place; `--set KEY` has the key in it."""
    key = place.removeprefix("--set ")
    if key != place and re.match(rf"{re.escape(key)}([.:]|$)", text):
        return f"--set {text}"
    return f"{place}: {text}"


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
