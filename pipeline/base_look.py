"""What the base's own files say, as soon as they are at hand: its kind, and its chat tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.base_files import base_config, model_folder
from pipeline.core.context_length import context_length, too_long
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
        RecipeError: an objective that needs another kind of base, or more room than it has.
        ModelError: a base whose config.json cannot be read.
    """
    notes: dict[str, None] = {}
    for built in recipes:
        train = built.loaded.recipe.train
        if train is None:
            continue
        _require_kind(built, nodes, store)
        _require_served(built, nodes, store)
        root = model_folder(nodes[built.start.root], store)
        if root is None:
            continue
        for objective in train.objective:
            settings = {**train.model_dump(mode="json"), "objective": objective}
            note = chat_token_note(root, settings)
            if note is not None:
                notes[f"{built.loaded.recipe.name}: {note}"] = None
    return tuple(notes)


def _require_served(built: Built, nodes: Mapping[str, Node], store: Store) -> None:
    """Refuses what no engine could serve of this base, before anything is trained for it."""
    serve = built.loaded.recipe.serve
    config = base_config(nodes[built.first.root], nodes, store)
    if config is None:
        # It is still to be fetched; the training looks again.
        return
    problem = too_long(context_length(config), serve.max_model_len)
    if problem is not None:
        raise built.loaded.error("serve.max_model_len", problem)
    text = config.get("text_config")
    size = (text if isinstance(text, dict) else config).get("vocab_size")
    above = [token for token in serve.stop_token_ids if isinstance(size, int) and token >= size]
    if above:
        raise built.loaded.error(
            "serve.stop_token_ids", f"{above[0]}: the base has {size} ids; take one of its tokens"
        )


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
