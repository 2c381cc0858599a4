"""The data side of a plan: `prepare` and `augment` nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema_data import Carve, Clean, Data
from pipeline.data.endpoint import endpoint_problem
from pipeline.data.misfits import form_problem, misfit
from pipeline.data_sources import (
    require_other_test,
    source_config,
    suite_owner,
    train_sources,
)
from pipeline.plan import Built, Node

if TYPE_CHECKING:
    from pipeline.ladder import Ladder


def prepare_node(
    ladder: Ladder,
    loaded: LoadedRecipe,
    tokenizer: str,
    objective: str,
    ancestors: tuple[Built, ...],
    not_checkable: Sequence[str],
) -> str:
    """The Dataset node of one objective: rows, splits, contamination, ids.

    Args:
        tokenizer: the node whose output holds the tokenizer: where it was made or fetched, so
            that rows are prepared before any training of an ancestor.
        not_checkable: fetched bases, whose pretraining rows nobody can compare with.
    """
    recipe = loaded.recipe
    assert recipe.data is not None
    assert recipe.train is not None
    require_other_test(loaded)
    inputs = {"tokenizer": tokenizer}
    files: dict[str, Path] = {}
    data, train = recipe.data, recipe.train
    sources: dict[str, Any] = {"train": train_sources(ladder, loaded, inputs, files)}
    if data.augment is not None:
        sources["train"].append(_augmented(ladder, loaded, sources["train"], inputs, files))
    if not isinstance(data.validation, Carve):
        sources["validation"] = source_config(
            ladder, loaded, "data.validation", data.validation, "validation", inputs, files
        )
    if data.test is not None and not isinstance(data.test, Carve):
        sources["test"] = source_config(
            ladder, loaded, "data.test", data.test, "test", inputs, files
        )
    replay = None
    if data.replay is not None:
        path = loaded.local(data.replay.recipe)
        replay = {"share": data.replay.share, "seed": train.seeds[0]}
        inputs["replay"] = _prepared_of(ladder, loaded, path, "data.replay.recipe", tokenizer)
    add_template(loaded, data, files)
    _add_ancestors(ladder, ancestors, inputs)
    for name in recipe.evaluate.suites:
        inputs[f"suite.{name}"] = suite_node(ladder, loaded, name, tokenizer, objective)
    config = {
        **_settings(data, objective),
        "sources": sources,
        "carve": _carve(loaded, data, "validation"),
        "carve_test": _carve(loaded, data, "test"),
        "replay": replay,
        "clean": data.clean.model_dump(mode="json"),
        "contamination": data.contamination,
        "not_checkable": list(not_checkable),
        "max_length": train.max_length,
        "over_length": train.over_length,
        "packing": train.packing and OBJECTIVES[objective].packs,
        "loss_on": train.loss_on,
    }
    problem = misfit(config["render"], objective, config)
    if problem is not None:
        raise loaded.error(*problem)
    name = f"{recipe.name}/prepare.{config['render']}"
    return ladder.add(Node(name, "prepare", config, inputs, files))


def _add_ancestors(ladder: Ladder, ancestors: Sequence[Built], inputs: dict[str, str]) -> None:
    """What every recipe below was trained on, for each objective, and all that it is judged by.

    Its suites count like its test rows: whoever trains on them here spoils its figures.
    """
    for index, below in enumerate(ancestors):
        for objective, node in below.prepared.items():
            # Two objectives may drop different rows: both are compared with.
            inputs[f"ancestor{index}.{objective}"] = node
        for name in below.loaded.recipe.evaluate.suites if below.prepared else ():
            # One rendering is enough: the rows are the same. It is a node of the ancestor's own.
            inputs[f"below{index}.suite.{name}"] = suite_node(
                ladder, below.loaded, name, below.tokenizer, next(iter(below.prepared))
            )


def _settings(data: Data, objective: str) -> dict[str, Any]:
    render = OBJECTIVES[objective].render
    return {
        "render": render,
        # A channel model writes a text for a label: it is told nothing else.
        "system": None if render == "channel" else data.system,
        "chat_template_kwargs": data.chat_template_kwargs,
        "max_quarantined": data.max_quarantined,
        "features": _features(data, render),
    }


def _features(data: Data, render: str) -> list[dict[str, Any]]:
    """The hand-made features of rows that a head is trained on; nobody else reads them."""
    if render != "classify":
        return []
    return [feature.model_dump(exclude_none=True) for feature in data.features]


def _carve(loaded: LoadedRecipe, data: Data, name: str) -> dict[str, Any] | None:
    """How a split is carved; both carved splits must go by the same column."""
    spec = getattr(data, name)
    if not isinstance(spec, Carve):
        return None
    other = data.test if name == "validation" else data.validation
    if isinstance(other, Carve):
        for key in ("by", "time"):
            mine, theirs = getattr(spec, key), getattr(other, key)
            if mine is not None and theirs is not None and mine != theirs:
                raise loaded.error(
                    f"data.{name}.{key}",
                    f"{mine!r} here and {theirs!r} for the other carved split; name one column",
                )
    return spec.model_dump()


def add_template(loaded: LoadedRecipe, data: Data, files: dict[str, Path]) -> None:
    """Adds the recipe's own chat template to the files of a node.

    Raises:
        RecipeError: there is no such file.
    """
    if data.chat_template is not None:
        files["chat_template"] = loaded.local(data.chat_template)
        if not files["chat_template"].is_file():
            raise loaded.error("data.chat_template", f"{data.chat_template}: no such file")


def _augmented(
    ladder: Ladder,
    loaded: LoadedRecipe,
    sources: list[dict[str, Any]],
    inputs: dict[str, str],
    files: dict[str, Path],
) -> dict[str, Any]:
    """Adds the node that makes synthetic rows; what of them goes into `prepare`'s key."""
    data = loaded.recipe.data
    assert data is not None
    assert data.augment is not None
    augment = data.augment
    problem = endpoint_problem(augment.endpoint)
    if problem is not None:
        raise loaded.error("data.augment.endpoint", problem)
    options = {"concurrency", "api_key_env"}
    roles = [role for role in inputs if role.startswith("train")]
    node = Node(
        f"{loaded.recipe.name}/augment",
        "augment",
        {
            "sources": list(sources),
            "augment": augment.model_dump(exclude=options),
            # What is sent to an endpoint is cleaned first: personal data stays here.
            "clean": data.clean.model_dump(mode="json"),
            "max_quarantined": data.max_quarantined,
        },
        {role: inputs[role] for role in roles},
        {role: path for role, path in files.items() if role.startswith("train")},
        options=augment.model_dump(include=options),
        note=f"{augment.kind} by {augment.model}",
    )
    inputs[f"train{len(sources)}"] = ladder.add(node)
    return {
        "made": "augment",
        "format": "canonical",
        "columns": {},
        "seed": augment.seed,
        "licence": augment.licence,
        "origin": f"synthetic: {augment.kind} by {augment.model}",
    }


def _prepared_of(ladder: Ladder, loaded: LoadedRecipe, path: Path, key: str, tokenizer: str) -> str:
    if not path.is_file():
        raise loaded.error(key, f"{path.name}: no such recipe; check the path")
    other = ladder.build(path)
    if not other.prepared:
        raise loaded.error(key, f"{path.name} prepares no data; name a recipe that trains")
    if other.tokenizer != tokenizer:
        raise loaded.error(
            key, f"{path.name}: its ids are of another tokenizer; replay a recipe below this one"
        )
    return next(iter(other.prepared.values()))


def _suite_render(form: str, objective: str) -> str:
    """How an extra suite's rows are rendered for a model of that objective.

    As its own rows where it could learn from such; others are asked and answered.
    """
    info = OBJECTIVES[objective]
    if form == "text":
        return "text"
    if form == "instructions":
        # Whatever it learned: can it still be told what to do?
        return "sft"
    return info.render if not info.forms or form in info.forms else "sft"


def suite_node(
    ladder: Ladder, loaded: LoadedRecipe, name: str, tokenizer: str, objective: str
) -> str:
    """The Dataset node of an extra suite, rendered as the judged recipe renders its rows."""
    owner, key, source = suite_owner(ladder, loaded, name)
    data = loaded.recipe.data
    assert data is not None
    inputs = {"tokenizer": tokenizer}
    files: dict[str, Path] = {}
    test = source_config(ladder, owner, key, source, "test", inputs, files)
    render = _suite_render(test["format"], objective)
    text = test["format"] == "text"
    problem = form_problem(render, objective, key, test["format"])
    if problem is not None:
        raise owner.error(f"{key}.format", problem)
    if not text:
        add_template(loaded, data, files)
    config: dict[str, Any] = {
        "render": render,
        "system": None if text or render == "channel" else data.system,
        "chat_template_kwargs": {} if text else data.chat_template_kwargs,
        "max_quarantined": data.max_quarantined,
        "sources": {"test": test},
        "carve": None,
        "carve_test": None,
        "replay": None,
        "clean": Clean().model_dump(mode="json"),
        "contamination": "drop",
        "not_checkable": [],
        "features": _features(data, render),
        "max_length": 1 << 20,
        "over_length": "error",
        "packing": False,
        "loss_on": "assistant",
    }
    stem = tokenizer.partition("/")[0] if text else loaded.recipe.name
    return ladder.add(Node(f"{stem}/suite.{name}.{render}", "prepare", config, inputs, files))
