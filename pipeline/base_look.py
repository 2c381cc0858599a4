"""What the base's own files say, as soon as they are at hand: its kind, and its chat tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.objectives import OBJECTIVES, pooling_problem
from pipeline.core.store import Store
from pipeline.data.chat_tokens import chat_token_note
from pipeline.plan import Built, Node

# Of transformers' models for masked language, those that also come without their head's name.
_ENCODERS = {
    "albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra",
    "ernie", "esm", "eurobert", "funnel", "ibert", "layoutlm", "longformer", "megatron-bert",
    "mobilebert", "modernbert", "mpnet", "nomic_bert", "roberta", "roberta-prelayernorm",
    "roformer", "squeezebert", "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip


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
    """
    notes: dict[str, None] = {}
    for built in recipes:
        train = built.loaded.recipe.train
        if train is None:
            continue
        _require_kind(built, nodes[built.tokenizer], store)
        root = _folder(nodes[built.start.root], store)
        if root is None:
            continue
        for objective in train.objective:
            settings = {**train.model_dump(mode="json"), "objective": objective}
            note = chat_token_note(root, settings)
            if note is not None:
                notes[f"{built.loaded.recipe.name}: {note}"] = None
    return tuple(notes)


def base_kind(config: Mapping[str, Any]) -> str | None:
    """``causal`` or ``encoder`` as a config.json tells it, or None where it does not."""
    name = str((config.get("architectures") or [""])[0])
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return "causal"
    if name.endswith("ForMaskedLM") or config.get("model_type") in _ENCODERS:
        return "encoder"
    return None


def _require_kind(built: Built, first: Node, store: Store) -> None:
    if first.stage == "scratch":
        kind: str | None = "causal"
    else:
        folder = _folder(first, store)
        kind = None if folder is None else base_kind(_config(folder))
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


def _folder(node: Node, store: Store) -> Path | None:
    """Where the node's model lies, if it does."""
    folder = node.files.get("folder")
    if folder is None and node.key is not None and store.get(node.key) is not None:
        folder = store.path_of(node.key)
    return folder


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
