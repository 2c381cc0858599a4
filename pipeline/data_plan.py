"""The data side of a plan: sources, what of them goes into a key, and `prepare` nodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.recipe import LoadedRecipe, load_recipe, looks_like_hub_id
from pipeline.core.schema import Carve, RecipeSuite, Source
from pipeline.plan import Built, Node

if TYPE_CHECKING:
    from pipeline.ladder import Ladder

RENDERS = {"pretrain": "text", "cpt": "text", "mlm": "text", "sft": "sft", "classify": "classify"}


def source_config(
    ladder: Ladder,
    loaded: LoadedRecipe,
    key: str,
    source: Source,
    role: str,
    inputs: dict[str, str],
    files: dict[str, Path],
) -> dict[str, Any]:
    """What of a source goes into a key; adds its file or fetch node under ``role``."""
    config = source.model_dump(exclude={"path", "revision"}, exclude_none=True)
    if source.generator is not None:
        from pipeline.data.generators import generator_identity

        return {**config, "generator": generator_identity(source.generator)}
    path = source.path or ""
    local = loaded.local(path)
    if local.is_file():
        files[role] = local
        return {**config, "suffix": local.suffix}
    if not looks_like_hub_id(path):
        raise loaded.error(f"{key}.path", f"{path}: no such file; check the path")
    commit, blocked = ladder.commit(loaded, "dataset", path, source.revision, f"{key}.path")
    inputs[role] = ladder.add(
        Node(
            f"{path}@{(commit or 'unlocked')[:7]}/fetch-data{'.' if source.files else ''}"
            f"{'+'.join(source.files)}",
            "fetch-data",
            {"repo": path, "commit": commit, "files": list(source.files)},
            blocked=blocked,
        )
    )
    return {**config, "repo": path}


def train_sources(
    ladder: Ladder, loaded: LoadedRecipe, inputs: dict[str, str], files: dict[str, Path]
) -> list[dict[str, Any]]:
    """Every source of the training rows, as it goes into a key."""
    assert loaded.recipe.data is not None
    return [
        source_config(ladder, loaded, "data.train", source, f"train{index}", inputs, files)
        for index, source in enumerate(loaded.recipe.data.train)
    ]


def prepare_node(
    ladder: Ladder, loaded: LoadedRecipe, root: str, objective: str, ancestors: tuple[Built, ...]
) -> str:
    """The Dataset node of one objective: rows, splits, contamination, ids."""
    recipe = loaded.recipe
    assert recipe.data is not None
    assert recipe.train is not None
    inputs = {"tokenizer": root}
    files: dict[str, Path] = {}
    data, train = recipe.data, recipe.train
    sources: dict[str, Any] = {"train": train_sources(ladder, loaded, inputs, files)}
    carve = None
    if isinstance(data.validation, Carve):
        carve = data.validation.model_dump()
    else:
        sources["validation"] = source_config(
            ladder, loaded, "data.validation", data.validation, "validation", inputs, files
        )
    if data.test is not None:
        sources["test"] = source_config(
            ladder, loaded, "data.test", data.test, "test", inputs, files
        )
    replay = None
    if data.replay is not None:
        path = loaded.local(data.replay.recipe)
        replay = {"share": data.replay.share, "seed": train.seeds[0]}
        inputs["replay"] = _prepared_of(ladder, loaded, path, "data.replay.recipe")
    if data.chat_template is not None:
        files["chat_template"] = loaded.local(data.chat_template)
        if not files["chat_template"].is_file():
            raise loaded.error("data.chat_template", f"{data.chat_template}: no such file")
    for index, below in enumerate(ancestors):
        for name in below.prepared.values():
            inputs[f"ancestor{index}"] = name
    config = {
        "sources": sources,
        "carve": carve,
        "replay": replay,
        "render": RENDERS[objective],
        "system": data.system,
        "chat_template_kwargs": data.chat_template_kwargs,
        "contamination": data.contamination,
        "max_length": train.max_length,
        "over_length": train.over_length,
        "packing": train.packing,
    }
    return ladder.add(
        Node(f"{recipe.name}/prepare.{RENDERS[objective]}", "prepare", config, inputs, files)
    )


def _prepared_of(ladder: Ladder, loaded: LoadedRecipe, path: Path, key: str) -> str:
    if not path.is_file():
        raise loaded.error(key, f"{path.name}: no such recipe; check the path")
    other = ladder.build(path)
    if not other.prepared:
        raise loaded.error(key, f"{path.name} prepares no data; name a recipe that trains")
    return next(iter(other.prepared.values()))


def suite_source(loaded: LoadedRecipe, name: str) -> Source:
    """The rows of an extra suite: its own source, or another recipe's test split."""
    return _suite_owner(None, loaded, name)[1]


def _suite_owner(
    ladder: Ladder | None, loaded: LoadedRecipe, name: str
) -> tuple[LoadedRecipe, Source]:
    spec = loaded.recipe.evaluate.suites[name]
    if not isinstance(spec, RecipeSuite):
        return loaded, spec
    key = f"evaluate.suites.{name}"
    path = loaded.local(spec.recipe)
    if not path.is_file():
        raise loaded.error(key, f"{spec.recipe}: no such recipe; check the path")
    owner = ladder.load(path) if ladder is not None else load_recipe(path)
    if owner.recipe.data is None or owner.recipe.data.test is None:
        raise loaded.error(key, f"{spec.recipe} has no data.test; name one that has")
    return owner, owner.recipe.data.test


def suite_node(ladder: Ladder, loaded: LoadedRecipe, name: str, root: str, objective: str) -> str:
    """The Dataset node of an extra suite, rendered as the judged recipe renders its rows."""
    owner, source = _suite_owner(ladder, loaded, name)
    data = loaded.recipe.data
    assert data is not None
    inputs = {"tokenizer": root}
    files: dict[str, Path] = {}
    render = "text" if source.format == "text" else RENDERS[objective]
    template = data.chat_template if render != "text" else None
    if template is not None:
        files["chat_template"] = loaded.local(template)
    config = {
        "sources": {
            "test": source_config(
                ladder, owner, f"evaluate.suites.{name}", source, "test", inputs, files
            )
        },
        "carve": None,
        "replay": None,
        "render": render,
        "system": data.system if render != "text" else None,
        "chat_template_kwargs": data.chat_template_kwargs if render != "text" else {},
        "contamination": "drop",
        "max_length": 1 << 20,
        "over_length": "error",
        "packing": False,
    }
    stem = root.partition("/")[0] if render == "text" else loaded.recipe.name
    return ladder.add(Node(f"{stem}/suite.{name}.{render}", "prepare", config, inputs, files))
