"""The rows of one source as a recipe names it: a file or folder, a URL, a hub data set, a
generator, or the rows that another stage made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.data.hub_dataset import hub_chunks
from pipeline.data.rows import Chunk
from pipeline.data.sources import generator_chunks, read_chunks

ROWS = "rows.jsonl"


def source_chunks(
    source: Mapping[str, Any], file: Path | None, folder: Path | None, where: str
) -> Iterator[Chunk]:
    """The chunks of a source, in an order that depends on the source alone.

    Args:
        source: as the plan put it into the key.
        file: the local file or folder of documents, if the source is one.
        folder: the artifact that holds the rows, if a stage fetched or made them.
        where: named in errors, e.g. ``data.train``.

    Raises:
        DataError: nothing there, or nothing that can be read; one line with place and remedy.
    """
    if source.get("made"):
        assert folder is not None
        return read_chunks(str(folder / ROWS), place=where)
    if file is not None or source.get("url"):
        path = str(file) if file is not None else str(source["url"])
        return read_chunks(path, files=tuple(source.get("files") or ()), place=where)
    if folder is not None:
        split = source.get("split") or "train"
        return hub_chunks(folder, source.get("config"), split, where)
    name = str(source["generator"]["generator"])
    return generator_chunks(name, str(source["part"]), int(source.get("seed", 0)), where)
