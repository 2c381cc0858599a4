"""Sources as a plan sees them: which file, URL, hub data set or generator, and in which format."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import DataError
from pipeline.core.recipe import LoadedRecipe, load_recipe, looks_like_hub_id, shown
from pipeline.core.recipe_problems import said
from pipeline.core.schema_data import HUB_KEYS, Carve, Source
from pipeline.core.schema_evaluate import RecipeSuite
from pipeline.plan import Node

if TYPE_CHECKING:
    from pipeline.ladder import Ladder

_SAME = ("path", "generator", "part", "config", "split", "files", "revision")


@dataclass(frozen=True)
class Shape:
    """How a source is read: its format, its column for each of ours, and what plays no part."""

    form: str
    columns: Mapping[str, str]
    notes: tuple[str, ...] = ()


def shape_of(loaded: LoadedRecipe, key: str, source: Source) -> Shape:
    """The format that the recipe names, or the one that the first rows show.

    Raises:
        RecipeError, DataError: no format fits, or nothing can be looked into yet.
    """
    from pipeline.data.detection import detect, fitting_columns
    from pipeline.data.formats import PROMPTED

    if source.prompt is not None and source.format not in {None, *PROMPTED}:
        raise loaded.error(
            f"{key}.prompt",
            f"format {source.format} brings its own turns; leave prompt out, or name another "
            f"format ({', '.join(sorted(PROMPTED))})",
        )
    source = settled(loaded, key, source)
    path = source.path or ""
    there = source.generator is None and (is_url(path) or loaded.local(path).exists())
    if not there:
        if source.format is not None:
            return Shape(source.format, dict(source.columns))
        what = "a generator" if source.generator is not None else path
        raise loaded.error(
            f"{key}.path" if source.path else f"{key}.generator",
            f"{what}: cannot be looked into before it is made or fetched, or does not exist; "
            "check the path, or name its format",
        )
    if source.format is not None and not source.columns:
        return Shape(source.format, {})
    where = path if is_url(path) else str(loaded.local(path))
    place = f"{key}: {path if is_url(path) else shown(Path(where))}"
    try:
        rows = _first_rows(where, source, key, place)
        fitting = fitting_columns(source.columns, rows, place)
        notes = tuple(
            f"columns: {ours}: {theirs!r} is no column of any row; {ours} itself is read"
            for ours, theirs in source.columns.items()
            if ours not in fitting
        )
        if source.format is not None:
            return Shape(source.format, fitting, notes)
        found = detect(rows, place, fitting)
    except DataError as error:
        raise type(error)(said(loaded.place(key), str(error))) from None
    return Shape(found.form, dict(found.columns), notes + found.notes)


@functools.lru_cache(maxsize=64)
def _peeked(where: str, files: tuple[str, ...], key: str, _version: float) -> tuple[Any, ...]:
    from pipeline.data.sources import peek

    return tuple(peek(where, files=files, place=key))


def placed_rows(found: Sequence[Any], place: str) -> list[dict[str, Any]]:
    """The rows that could be read.

    Raises:
        DataError: not one could: why the first could not.
    """
    from pipeline.data.rows import Placed

    rows = [one.row for one in found if isinstance(one, Placed)]
    if found and not rows:
        raise DataError(
            f"{place}: no row can be read ({found[0].place}: {found[0].reason}); mend or replace it"
        )
    return rows


def _first_rows(where: str, source: Source, key: str, place: str) -> list[dict[str, Any]]:
    """The first rows of a source; looked into once for each state of a local file."""
    local = Path(where)
    version = local.stat().st_mtime if local.exists() else time.monotonic()
    found = _peeked(where, tuple(source.files), key, version)
    return placed_rows(found, place)


def is_url(path: str) -> bool:
    """Whether a path is for fsspec: it has a scheme."""
    return "://" in path


def settled(loaded: LoadedRecipe, key: str, source: Source) -> Source:
    """The source without the keys that play no part for its kind.

    Where ``--set`` puts a file in the place of a hub data set, the recipe's own ``split`` is
    dropped. Written beside the path, such a key would be a wish that nobody hears.

    Raises:
        RecipeError: such a key, or a URL that holds a secret.
    """
    path = source.path or ""
    if is_url(path):
        _require_plain(loaded, key, path)
    elif not path or not loaded.local(path).exists():
        return source
    what = "a URL" if is_url(path) else "a local path"
    alone = path.startswith("http") if is_url(path) else loaded.local(path).is_file()
    idle = [name for name in (*HUB_KEYS, *(["files"] * alone)) if getattr(source, name)]
    for name in idle:
        if not _is_set(loaded, f"{key}.path") or _is_set(loaded, f"{key}.{name}"):
            within, empty = (
                ("a folder, and this is one file", "[]")
                if name == "files"
                else (f"a hub data set, and path is {what}", "null")
            )
            raise loaded.error(
                f"{key}.{name}", f"chooses within {within}; leave it out or set it to {empty}"
            )
    return source.model_copy(update={name: () if name == "files" else None for name in idle})


def _is_set(loaded: LoadedRecipe, key: str) -> bool:
    return loaded.places.get(key, "").startswith("--set ")


def _require_plain(loaded: LoadedRecipe, key: str, url: str) -> None:
    from pipeline.data.sources.remote import named, secret_in

    secret = secret_in(url)
    if secret is not None:
        # It would stand in plan, manifest and lineage for everyone to read.
        raise loaded.error(
            f"{key}.path",
            f"{named(url)}: holds a secret ({secret}); leave it out and give it to fsspec by the "
            "environment",
        )
    if "::" in url:
        raise loaded.error(
            f"{key}.path",
            f"{named(url)}: a chain of file systems is not read; name the file itself",
        )


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
    source = settled(loaded, key, source)
    config = source.model_dump(exclude={"path", "revision"}, exclude_none=True)
    if source.generator is not None:
        from pipeline.data.generators import generator_identity, require_part

        try:
            require_part(source.generator, source.part or "")
        except DataError as error:
            raise loaded.error(f"{key}.generator", str(error)) from None
        shape = shape_of(loaded, key, source)
        return {**config, **_shaped(shape), "generator": generator_identity(source.generator)}
    path = source.path or ""
    if is_url(path):
        return {**config, **_shaped(shape_of(loaded, key, source)), **_remote(loaded, key, source)}
    local = loaded.local(path)
    if local.exists():
        files[role] = local
        shape = shape_of(loaded, key, source)
        suffix = "" if local.is_dir() else "".join(local.suffixes[-2:])
        return {**config, **_shaped(shape), "suffix": suffix}
    if not looks_like_hub_id(path):
        raise loaded.error(f"{key}.path", f"{path}: no such file; check the path")
    shape = shape_of(loaded, key, source)
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
    return {**config, **_shaped(shape), "repo": path}


def _shaped(shape: Shape) -> dict[str, Any]:
    return {"format": shape.form, "columns": dict(shape.columns)}


def _remote(loaded: LoadedRecipe, key: str, source: Source) -> dict[str, Any]:
    """A URL and what its files are now: a changed file makes another key."""
    from pipeline.data.sources import remote_identity

    try:
        found = remote_identity(source.path or "", source.files)
    except DataError as error:
        raise DataError(said(loaded.place(key), f"{key}: {error}")) from None
    return {"url": source.path, "versions": [list(pair) for pair in found]}


def train_sources(
    ladder: Ladder, loaded: LoadedRecipe, inputs: dict[str, str], files: dict[str, Path]
) -> list[dict[str, Any]]:
    """Every source of the training rows, as it goes into a key."""
    assert loaded.recipe.data is not None
    return [
        source_config(ladder, loaded, _train_key(loaded, index), source, f"train{index}", inputs,
                      files)
        for index, source in enumerate(loaded.recipe.data.train)
    ]  # fmt: skip


def _train_key(loaded: LoadedRecipe, index: int) -> str:
    key = f"data.train.{index}"
    return key if key in loaded.places else "data.train"


def test_form(loaded: LoadedRecipe) -> str | None:
    """The format of a recipe's own test rows; None where it has none."""
    data = loaded.recipe.data
    if data is None or data.test is None:
        return None
    if isinstance(data.test, Carve):
        return shape_of(loaded, "data.train", data.train[0]).form
    return shape_of(loaded, "data.test", data.test).form


def require_other_test(loaded: LoadedRecipe) -> None:
    """Refuses a recipe whose test rows are named as its training rows.

    Raises:
        RecipeError: with the place of the test source.
    """
    data = loaded.recipe.data
    if data is None or not isinstance(data.test, Source):
        return
    test = settled(loaded, "data.test", data.test)
    for index, source in enumerate(data.train):
        train = settled(loaded, _train_key(loaded, index), source)
        if all(getattr(train, name) == getattr(test, name) for name in _SAME):
            raise loaded.error(
                "data.test",
                "is what data.train reads: it would train on its own test split; name another "
                "split or file, or carve one: test: {carve: 0.1}",
            )


def suite_source(loaded: LoadedRecipe, name: str) -> Shape:
    """The format of an extra suite: of its own source, or of another recipe's test split."""
    owner, key, source = suite_owner(None, loaded, name)
    return shape_of(owner, key, source)


def suite_owner(
    ladder: Ladder | None, loaded: LoadedRecipe, name: str
) -> tuple[LoadedRecipe, str, Source]:
    """(recipe that names the rows, its key, the source) of an extra suite."""
    spec = loaded.recipe.evaluate.suites[name]
    key = f"evaluate.suites.{name}"
    if not isinstance(spec, RecipeSuite):
        return loaded, key, spec
    path = loaded.local(spec.recipe)
    if not path.is_file():
        raise loaded.error(key, f"{spec.recipe}: no such recipe; check the path")
    owner = ladder.load(path) if ladder is not None else load_recipe(path)
    if owner.recipe.data is None or not isinstance(owner.recipe.data.test, Source):
        raise loaded.error(key, f"{spec.recipe} has no data.test of its own; name one that has")
    return owner, "data.test", owner.recipe.data.test
