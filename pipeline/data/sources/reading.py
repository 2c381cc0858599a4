"""A source by its path: the chunks of all its files, or its first rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pipeline.core.errors import DataError
from pipeline.data.rows import Chunk, Placed, Refused
from pipeline.data.sources.arrow_table import parquet_chunks
from pipeline.data.sources.chunks import RowList, in_lists
from pipeline.data.sources.csv_table import csv_chunks
from pipeline.data.sources.documents import Document, document_chunks, paragraph_chunks
from pipeline.data.sources.files import find_files
from pipeline.data.sources.json_list import json_chunks
from pipeline.data.sources.jsonl import jsonl_chunks
from pipeline.data.sources.source_file import LINE_KINDS, TABLE_KINDS, SourceFile

# A PDF or a page takes long to read, and all documents have the same fields.
_DOCUMENTS_PEEKED = 5


def read_chunks(path: str, *, files: tuple[str, ...] = (), place: str) -> Iterator[Chunk]:
    """The rows of a file, a folder or a URL, in pieces that a worker can parse.

    A plain text file holds documents with blank lines between them; within a folder each
    document file, plain text too, is one row with ``source_file``.

    Args:
        path: a local path, or a URL that fsspec reads.
        files: patterns: only these files of a folder.
        place: opens every error, e.g. ``data.train``.

    Raises:
        DataError: nothing there, no rows at all, or a file that cannot be read as what it is.
    """
    empty = True
    for found in find_files(path, files, place):
        for chunk in _chunks_of(found, place):
            empty = False
            yield chunk
    if empty:
        name = found.shown if isinstance(found, SourceFile) else found.place
        raise DataError(f"{place}: {name}: holds no rows; point at a file with rows")


def peek(
    path: str, *, files: tuple[str, ...] = (), place: str, rows: int = 200
) -> list[Placed | Refused]:
    """The first rows, at little cost: what a format is told from. Of documents, a few.

    Raises:
        DataError: see ``read_chunks``.
    """
    chunks = read_chunks(path, files=files, place=place)
    found: list[Placed | Refused] = []
    documents = 0
    for chunk in chunks:
        found.extend(islice(chunk.rows(), rows - len(found)))
        documents += isinstance(chunk, Document)
        if len(found) >= rows or documents >= _DOCUMENTS_PEEKED:
            break
    return found


def generator_chunks(name: str, part: str, seed: int, place: str) -> Iterator[Chunk]:
    """The rows of one of the project's own generators.

    Raises:
        DataError: no such generator, or no such part of it.
    """
    from pipeline.data.generators import generate

    rows = enumerate(generate(name, part, seed), 1)
    return in_lists(Placed(f"{place}: row {number}", row) for number, row in rows)


def _chunks_of(found: SourceFile | Refused, place: str) -> Iterator[Chunk]:
    if isinstance(found, Refused):
        return iter([RowList((found,))])
    if found.kind in LINE_KINDS:
        return jsonl_chunks(found, place)
    if found.kind == ".json":
        return json_chunks(found, place)
    if found.kind in TABLE_KINDS:
        return csv_chunks(found, place)
    if found.kind == ".parquet":
        return parquet_chunks(found, place)
    if found.kind == ".txt" and found.inside is None:
        return paragraph_chunks(found, place)
    return document_chunks(found, place)
