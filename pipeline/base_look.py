"""What the base's own files say, as soon as they are at hand: its kind, and its chat tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.base_files import base_config, model_folder
from pipeline.core.model_config import model_kind
from pipeline.core.objectives import OBJECTIVES, pooling_problem
from pipeline.core.store import Store
from pipeline.data.chat_tokens import chat_token_note
from pipeline.plan import Built, Node


def look_at_bases(
    recipes: Iterable[Built], nodes: Mapping[str, Node], store: Store
) -> tuple[str, ...]:
    """Refuses objectives that a base cannot be trained for; notes on its chat tokens.

    Args:
        recipes: of the plan.
        nodes: with keys.

    Returns:
        One line each; nothing of bases that are still to be fetched or made: their chat tokens
        are looked at when training begins.

    Raises:
        RecipeError: an objective that needs another kind of base.
        ModelError: a base whose config.json cannot be read.
    """
    notes: dict[str, None] = {}
    for built in recipes:
        train = built.loaded.recipe.train
        if train is None:
            continue
        _require_kind(built, nodes, store)
        root = model_folder(nodes[built.start.root], store)
        if root is None:
            continue
        for objective in train.objective:
            settings = {**train.model_dump(mode="json"), "objective": objective}
            note = chat_token_note(root, settings)
            if note is not None:
                notes[f"{built.loaded.recipe.name}: {note}"] = None
    return tuple(notes)


def _require_kind(built: Built, nodes: Mapping[str, Node], store: Store) -> None:
    config = base_config(nodes[built.tokenizer], nodes, store)
    kind = None if config is None else model_kind(config)
    train = built.loaded.recipe.train
    assert train is not None
    for objective in train.objective:
        problem = pooling_problem(objective, train.head.pooling, causal=kind == "causal")
        if problem is not None:
            key, _, reason = problem.partition(": ")
            raise built.loaded.error(key, reason)
        needs = OBJECTIVES[objective].needs
        if kind is not None and needs not in {"either", kind}:
            article = {"causal": "a causal model", "encoder": "an encoder"}
            fit = [name for name, info in OBJECTIVES.items() if info.needs in {"either", kind}]
            raise built.loaded.error(
                "train.objective",
                f"{objective} needs {article[needs]}, and the base is {article[kind]}; "
                f"take another base, or one of {', '.join(fit)}",
            )
