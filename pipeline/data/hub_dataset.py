"""Rows of a hub data set that has been downloaded: its configurations and splits.

The folder is a whole snapshot of the repository. The ``datasets`` library reads it, because
it knows the formats and the ``configs:`` of a data set's README.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import DataError
from pipeline.data.rows import Chunk
from pipeline.data.sources.arrow_table import ArrowBlock, arrow_stream, batch_rows
from pipeline.data.sources.chunks import RowList


def hub_chunks(folder: Path, config: str | None, split: str, place: str) -> Iterator[Chunk]:
    """The rows of one split, in the order of the files, in pieces that a worker can parse.

    Nothing is fetched and nothing is left outside ``folder``: a README that points to files
    elsewhere is refused, and the library's own copies live in a temporary folder, as long as
    the iterator does (or until it is closed).

    Args:
        folder: the downloaded snapshot.
        config: the configuration; None takes the data set's default.
        split: the split, by its name alone.
        place: opens every row's place and every error, e.g. ``data.train: mteb/banking77``.

    Returns:
        Chunks of Placed rows. A class label (``ClassLabel``) is given by its name, or None
        where the row has none.

    Raises:
        DataError: no such configuration or split (those that exist are named), files
            elsewhere, files that cannot be read, or no rows.
    """
    if not folder.is_dir():
        raise DataError(f"{place}: {folder}: no such folder; fetch the data set first")
    with tempfile.TemporaryDirectory(prefix="gradus-datasets-") as cache:
        try:
            dataset = _prepared(folder, config, split, cache)
            if not len(dataset):
                raise DataError(f"{folder}: split {split} holds no rows; take another")
            yield from _blocks(dataset, place)
        except DataError as error:
            raise DataError(f"{place}: {error}") from None
        except Exception as error:
            # The library raises whatever its formats' parsers raise.
            raise DataError(
                f"{place}: {folder}: split {split} cannot be read ({_root_cause(error)}); "
                "check the data set's files, or point the recipe at a local file with --set"
            ) from error


def _prepared(folder: Path, config: str | None, split: str, cache: str) -> Any:
    """The split, memory-mapped from ``cache``."""
    with _quiet():
        _refuse_addresses(folder)
        builder = _builder(folder, config, cache)
        _require_split(folder, builder, split)
        builder.download_and_prepare()
        return builder.as_dataset(split=split)


def _refuse_addresses(folder: Path) -> None:
    # Before the library reads the README: it would ask the address at once.
    from huggingface_hub import DatasetCard

    card, extra = folder / "README.md", folder / ".huggingface.yaml"
    metadata = [DatasetCard.load(card).data.to_dict()] if card.is_file() else []
    if extra.is_file():
        metadata.append(yaml.safe_load(extra.read_text(encoding="utf-8")) or {})
    for value in _texts([found.get("configs") for found in metadata]):
        if "://" in value:
            raise DataError(_elsewhere(card if card.is_file() else extra, value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _elsewhere(place: Path, target: str) -> str:
    return (
        f"{place}: points to {target}, outside of the data set and its locked commit; "
        "download that file and point the recipe at it with --set"
    )


def _builder(folder: Path, config: str | None, cache: str) -> Any:
    """The library's reader of the folder, of a configuration that exists."""
    from datasets import DownloadConfig, get_dataset_config_names, load_dataset_builder

    offline = DownloadConfig(cache_dir=f"{cache}/downloads", local_files_only=True)
    configs = get_dataset_config_names(str(folder), download_config=offline)
    if config is not None and config not in configs:
        raise DataError(
            f"{folder}: no configuration {config!r}; it has {', '.join(map(repr, configs))}"
        )
    if config is None and len(configs) > 1 and not _has_default(folder, cache, offline):
        names = ", ".join(map(repr, configs))
        raise DataError(f"{folder}: several configurations; set config to one of {names}")
    return load_dataset_builder(
        str(folder), name=config, cache_dir=f"{cache}/arrow", download_config=offline
    )


def _has_default(folder: Path, cache: str, offline: Any) -> bool:
    from datasets import get_dataset_default_config_name

    return get_dataset_default_config_name(str(folder), download_config=offline) is not None


def _require_split(folder: Path, builder: Any, split: str) -> None:
    files = builder.config.data_files or {}
    if split not in files:
        names = ", ".join(repr(str(name)) for name in files) or "none"
        raise DataError(f"{folder}: no split {split!r}; it has {names}")
    root = folder.resolve()
    for name in files[split]:
        # What lies elsewhere is not part of the locked commit, whatever a README says.
        if not Path(str(name)).resolve().is_relative_to(root):
            raise DataError(_elsewhere(folder, str(name)))


def _blocks(dataset: Any, place: str) -> Iterator[Chunk]:
    from datasets import ClassLabel

    labels = tuple(
        (name, tuple(feature.names))
        for name, feature in dataset.features.items()
        if isinstance(feature, ClassLabel)
    )
    # Columns of JSON text, which only the library's own to_list turns into values.
    coded = "Json(" in str(dataset.features)
    size = batch_rows(dataset.data.nbytes, len(dataset))
    for start in range(0, len(dataset), size):
        if coded:
            rows = dataset.select(range(start, min(start + size, len(dataset)))).to_list()
            found = ArrowBlock(place, start + 1, b"", labels).placed(rows)
            yield RowList(tuple(found))
        else:
            table = dataset.data.slice(start, size)
            stream = arrow_stream(table.to_batches(), table.schema)
            yield ArrowBlock(place, start + 1, stream, labels)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of the library: gradus draws its own."""
    import datasets

    shown = datasets.are_progress_bars_disabled() is False
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
