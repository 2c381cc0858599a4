"""Whether the installed engine can serve what a recipe makes; asked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.core.engine_limits import ENGINE, ENGINE_RANKS, engine_rank
from pipeline.core.objectives import OBJECTIVES, model_name
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema import Recipe
from pipeline.core.schema_train import Train
from pipeline.plan import Built, ModelRef

# Names that transformers gives to the matrices at both ends of a model.
_EMBEDDINGS = {
    "embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out", "embeddings",
}  # fmt: skip


def unstackable(train: Train) -> str | None:
    """The setting by which an adapter is no sum of low-rank updates, or None."""
    if train.method == "full":
        return None
    if train.use_dora:
        return "use_dora"
    if train.modules_to_save:
        return "modules_to_save"
    targets = () if isinstance(train.target_modules, str) else train.target_modules
    ends = {name.rpartition(".")[2] for name in targets} & _EMBEDDINGS
    return "target_modules" if ends else None


def adapter_rank(train: Train) -> int:
    """The largest rank among the modules of an adapter."""
    return max((train.lora_r, *train.rank_pattern.values()))


def require_exportable(loaded: LoadedRecipe, start: ModelRef, below: Sequence[Built]) -> None:
    """Refuses what could be trained, and then neither exported nor served.

    Args:
        start: what training starts from.
        below: the recipes that it stands on, nearest first.

    Raises:
        RecipeError: one line with the recipe's place and what to set instead.
    """
    train, serve = loaded.recipe.train, loaded.recipe.serve
    if train is None or train.method == "full":
        return
    key = unstackable(train)
    if key is not None and serve.export != ("merged",):
        raise loaded.error(
            f"train.{key}",
            f"{ENGINE} serves no such adapter, and none can be stacked over it: set "
            f"serve.export: merged for full weights, or {_instead(key)}",
        )
    if start.adapter is None:
        return
    if key == "use_dora" and (train.method == "qlora" or train.precision == "bf16"):
        raise loaded.error(
            "train.use_dora",
            f"the adapter of {start.name} would lie beside rounded weights, where DoRA's "
            "magnitudes do not see it; set method: lora with precision: fp32, or give "
            f"{start.name} serve.export: merged",
        )
    _require_numerics(loaded, start, below[0].loaded if below else loaded)
    rank = start.rank + adapter_rank(train)
    _require_rank(loaded, start, rank)


def _instead(key: str) -> str:
    return {
        "use_dora": "use_dora: false",
        "modules_to_save": "leave modules_to_save out",
        "target_modules": "name no embeddings in target_modules",
    }[key]


def _require_numerics(loaded: LoadedRecipe, start: ModelRef, parent: LoadedRecipe) -> None:
    """One adapter over another means the sum of both only over the same weights."""
    mine = loaded.recipe.train.method if loaded.recipe.train else "full"
    theirs = parent.recipe.train.method if parent.recipe.train else "full"
    if "full" in {mine, theirs} or mine == theirs:
        return
    raise loaded.error(
        "train.method",
        f"{mine} over {start.name}, whose adapter was trained with {theirs}: one stood on 4-bit "
        f"weights and the other on full ones; set method: {theirs}, or give {start.name} "
        "serve.export: merged (a new root)",
    )


def _require_rank(loaded: LoadedRecipe, start: ModelRef, rank: int) -> None:
    train, export = loaded.recipe.train, loaded.recipe.serve.export
    if train is None or "stacked" not in export or engine_rank(rank) is not None:
        return
    if not any(OBJECTIVES[objective].writes for objective in train.objective):
        return
    most = ENGINE_RANKS[-1]
    left = most - start.rank
    lower = f"set lora_r (and rank_pattern) to {left} at most" if left > 0 else "train it from less"
    raise loaded.error(
        "train.lora_r",
        f"rank {rank} over all levels ({start.rank} of {start.name}) is above {ENGINE}'s largest "
        f"({most}); {lower}, or set serve.export: merged",
    )


def serving_config(recipe: Recipe) -> dict[str, Any]:
    """How a recipe has its family served, as the stages that make bundles take it."""
    serve = recipe.serve
    return {
        "serve": {
            "max_model_len": serve.max_model_len,
            "sampling": serve.sampling.stated(),
            "stop": list(serve.stop),
            "stop_token_ids": list(serve.stop_token_ids),
            "engine": serve.engine.stated(),
        }
    }


def serving_notes(loaded: LoadedRecipe) -> list[str]:
    """What is made and judged, and not served; one line for each model."""
    recipe = loaded.recipe
    notes = []
    for objective in recipe.train.objective if recipe.train else ():
        why = _unserved(objective, recipe.train) if recipe.train else None
        if why is not None:
            notes.append(
                f"{model_name(recipe.name, objective)}: made and judged here, and not served: {why}"
            )
    if recipe.trust_remote_code:
        notes.append(
            f"{recipe.name}: the base runs code of its own here; the engine is not told to run it, "
            "and serves it only where it knows the architecture itself"
        )
    return notes


def _unserved(objective: str, train: Train) -> str | None:
    """Why a model of this objective is not served, and what would be; None: it is."""
    info = OBJECTIVES[objective]
    if not OBJECTIVES[train.objective[0]].writes:
        if info.head:
            return (
                "a family is served by the model that writes, and heads beside it; set "
                "train.objective: [sft, classify], or hybrid"
            )
        return "it reads and does not write, so there is no chat to serve"
    if objective == "tag":
        return "it answers for each token, and the gateway for a text; its tags stay offline"
    if info.head and train.method == "full":
        return (
            "its head stands on weights of its own, which would be a second base; set method: lora"
        )
    if objective == "channel" and train.objective[0] != "channel":
        return "it writes texts from labels, which nobody asks a server for"
    return None
