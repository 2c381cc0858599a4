"""What a fine-tuned model may have forgotten, asked where its recipe names nothing of the kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.schema import Recipe
from pipeline.core.schema_data import Source
from pipeline.core.schema_evaluate import RecipeSuite

GENERAL, DOMAIN = "general", "domain"
# Names of their own: what a recipe of the ladder calls `general` may be another text.
DOCSTRINGS, INSTRUCTIONS = "docstrings", "instructions"
_DOCSTRINGS: dict[str, Any] = {
    "generator": "stdlib_docstrings", "part": "test", "format": "text", "licence": "PSF-2.0",
}  # fmt: skip
_CHECKABLE: dict[str, Any] = {
    "generator": "checkable_instructions", "part": "test", "format": "instructions",
    "licence": "Apache-2.0",
}  # fmt: skip


def with_default_suites(recipe: Recipe, folder: Path, parent: tuple[Recipe, Path] | None) -> Recipe:
    """The recipe with the suites that show forgetting.

    Of a model that writes: the texts of the levels below it, or general text where no recipe
    below has any; of one that chats, instructions that programs check too. What stands over no
    other model has nothing to forget; ``evaluate.forgetting: false`` asks none of it.

    Args:
        folder: of the recipe's file.
        parent: the recipe that ``base`` names, with its own suites, and its file; None: a hub id
            or a folder.
    """
    evaluate, train = recipe.evaluate, recipe.train
    if not evaluate.forgetting or train is None or recipe.base is None:
        return recipe
    trained = [OBJECTIVES[objective] for objective in train.objective if objective != "channel"]
    added: dict[str, Source | RecipeSuite] = {}
    if any(one.writes for one in trained):
        texts = {} if parent is None else _texts(*parent)
        if not texts and not any(map(_is_text, evaluate.suites.values())):
            texts = {DOCSTRINGS: Source.model_validate(_DOCSTRINGS)}
        added |= texts
    forms = {suite.format for suite in evaluate.suites.values() if isinstance(suite, Source)}
    if any(one.chats for one in trained) and "instructions" not in forms:
        added[INSTRUCTIONS] = Source.model_validate(_CHECKABLE)
    named = evaluate.suites
    told = {_file(suite, folder) for suite in named.values()} - {None}
    kept = {name: suite for name, suite in added.items() if _file(suite, folder) not in told}
    suites = {**kept, **named}
    return recipe.model_copy(update={"evaluate": evaluate.model_copy(update={"suites": suites})})


def _texts(parent: Recipe, place: Path) -> dict[str, Source | RecipeSuite]:
    """The texts by which the levels below are judged: the parent's own and those that it has."""
    found: dict[str, Source | RecipeSuite] = {}
    for name in (GENERAL, DOMAIN, DOCSTRINGS):
        suite = parent.evaluate.suites.get(name)
        if isinstance(suite, RecipeSuite):
            found[name] = RecipeSuite(recipe=str(place.parent / suite.recipe))
        elif suite is not None and suite.generator is not None:
            found[name] = suite
    test = parent.data.test if parent.data is not None else None
    if isinstance(test, Source) and test.format == "text":
        own = GENERAL if parent.level == "L0" else DOMAIN
        found.setdefault(own, RecipeSuite(recipe=str(place)))
    return found


def _file(suite: Source | RecipeSuite, folder: Path) -> Path | None:
    """The recipe whose test split a suite is."""
    return (folder / suite.recipe).resolve() if isinstance(suite, RecipeSuite) else None


def _is_text(suite: Source | RecipeSuite) -> bool:
    """Another recipe's test split is what that model was made for: of a base, text."""
    return isinstance(suite, RecipeSuite) or suite.format == "text"
