"""The training side of a plan: `train` nodes, and what of a training is part of its key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.objectives import OBJECTIVES, model_name
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema_train import Train
from pipeline.init_from import adapter_folder, require_same_form
from pipeline.plan import ModelRef, Node
from pipeline.preflight import cell_refusal, launch_problem, machine_problem
from pipeline.servable import adapter_rank

if TYPE_CHECKING:
    from pipeline.ladder import Ladder

# Read by a running training, and in no key: another machine may set them otherwise.
_OPTIONS = {
    "micro_batch_size", "auto_micro_batch", "save_steps", "gradient_checkpointing", "attention",
    "compile", "activation_memory_budget", "resume", "report_to",
}  # fmt: skip
NOT_IN_KEY = _OPTIONS | {"launch", "seeds"}
"""Settings of `train` that change no result."""
_ADAPTER_ONLY = {
    "lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora",
    "modules_to_save", "rank_pattern", "alpha_pattern",
}  # fmt: skip
# `prepare` reads them; `init_from` is an input of its own.
_ELSEWHERE = {"objective", "over_length", "packing", "loss_on", "init_from"}


def train_config(train: Train, objective: str) -> dict[str, Any]:
    """The training settings that change the result of ``objective``; no others."""
    info = OBJECTIVES[objective]
    unused = NOT_IN_KEY | _ELSEWHERE
    if train.method == "full":
        unused = unused | _ADAPTER_ONLY
    if not info.head:
        unused = unused | {"head", "head_learning_rate"}
    if not info.packs and objective != "hybrid":
        unused = unused | {"loss_weighting"}
    for name, owner in (
        ("mlm_probability", "mlm"),
        ("dpo_beta", "dpo"),
        ("hybrid", "hybrid"),
    ):
        if objective != owner:
            unused = unused | {name}
    if train.max_steps is not None:
        unused = unused | {"num_train_epochs"}
    if train.warmup_steps is not None:
        unused = unused | {"warmup_ratio"}
    if not (train.load_best_model_at_end or train.early_stopping_patience):
        unused = unused | {"metric_for_best_model"}
    return {**train.model_dump(mode="json", exclude=unused), "objective": objective}


def train_options(train: Train) -> dict[str, Any]:
    """The settings that change how a result is reached, and not which."""
    return train.model_dump(mode="json", include=_OPTIONS)


def trained_model(
    ladder: Ladder, loaded: LoadedRecipe, start: ModelRef, data: str, objective: str, seed: int
) -> ModelRef:
    """Adds the nodes that train one model and export it.

    Args:
        start: what the training starts from.
        data: the node of its rows.

    Returns:
        The model as it is served.

    Raises:
        RecipeError: a training that is none, with the recipe's line and what to set instead.
    """
    recipe, train = loaded.recipe, loaded.recipe.train
    assert train is not None
    name = model_name(recipe.name, objective)
    inputs = {"root": start.root, "data": data}
    if start.adapter is not None:
        inputs["parent"] = start.adapter
    init, files = _init(ladder, loaded, train, inputs)
    launch = _launch(loaded, train)
    refusal = cell_refusal(train, objective, launch)
    if refusal is not None:
        key, _, reason = refusal.partition(": ")
        raise loaded.error(key, reason)
    stem = f"{recipe.name}/{{}}.{objective}.seed{seed}"
    full = train.method == "full"
    node = Node(
        stem.format("train"),
        "train-full" if full else "train",
        {**train_config(train, objective), "seed": seed},
        {**inputs, **init},
        files,
        options={**train_options(train), "launch": launch, **_served(loaded)},
        blocked=launch_problem(launch) or machine_problem(train),
        note="full weights: a new engine root" if full and start.level != recipe.level else "",
    )
    trained = ladder.add(node)
    if full:
        return ModelRef(name, recipe.level, trained)
    return _exported(ladder, loaded, start, name, stem, {**inputs, "own": trained})


def _exported(
    ladder: Ladder,
    loaded: LoadedRecipe,
    start: ModelRef,
    name: str,
    stem: str,
    inputs: dict[str, str],
) -> ModelRef:
    """Adds the node that makes a trained adapter what is served.

    Args:
        stem: of the node's id, with a place for the stage's name.
        inputs: root, own, data, and parent where there is one.

    Returns:
        The root with one stacked adapter; with ``serve.export: merged`` alone a new root.
    """
    recipe = loaded.recipe
    assert recipe.train is not None
    config = {"method": recipe.train.method, "precision": recipe.train.precision}
    if recipe.serve.export == ("merged",):
        note = "full weights: a new engine root"
        merged = Node(stem.format("merge"), "merge", config, inputs, note=note)
        return ModelRef(name, recipe.level, ladder.add(merged))
    rank = start.rank + adapter_rank(recipe.train)
    export = Node(stem.format("export"), "export", config, inputs, rank=rank)
    return ModelRef(name, recipe.level, start.root, ladder.add(export), rank)


def _served(loaded: LoadedRecipe) -> dict[str, int]:
    """What a training holds its base to: one that was fetched by then may have less room."""
    length = loaded.recipe.serve.max_model_len
    return {} if length is None else {"serve_max_model_len": length}


def _init(
    ladder: Ladder, loaded: LoadedRecipe, train: Train, inputs: dict[str, str]
) -> tuple[dict[str, str], dict[str, Path]]:
    """The adapter whose weights are trained on: a node's, or a folder."""
    if train.init_from is None:
        return {}, {}
    target = loaded.local(train.init_from)
    if target.is_dir():
        return {}, {"init": adapter_folder(loaded, target)}
    if not target.is_file():
        raise loaded.error(
            "train.init_from", f"{train.init_from}: no such recipe or folder; check the path"
        )
    other = ladder.build(target, (loaded.path,))
    # What was trained, before it was stacked or merged.
    theirs, made = other.loaded.recipe.train, other.first.adapter or other.first.root
    own = ladder.nodes[made].inputs.get("own")
    if theirs is None or own is None or other.start.root != inputs["root"]:
        raise loaded.error(
            "train.init_from",
            f"{target.name}: has no adapter over this recipe's base; name one that has",
        )
    if other.start.adapter != inputs.get("parent"):
        raise loaded.error(
            "train.init_from", f"{target.name}: its adapter was trained over another one"
        )
    require_same_form(loaded, theirs, target.name)
    return {"init": own}, {}


def _launch(loaded: LoadedRecipe, train: Train) -> dict[str, Any]:
    config = train.launch.config
    if config is None:
        return train.launch.model_dump()
    path = loaded.local(config)
    if not path.is_file():
        raise loaded.error("train.launch.config", f"{config}: no such file; check the path")
    return {**train.launch.model_dump(), "config": str(path)}
