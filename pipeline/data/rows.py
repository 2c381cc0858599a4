"""Rows of a source: a local file, a fetched hub data set or a generator, as plain dicts.

A row that does not fit its format is an error that names file and line: nothing is left
out in silence.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import DataError
from pipeline.core.recipe import shown

Row = dict[str, Any]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "question_answer": ("question", "answer"),
    "classification": ("text", "label"),
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_ROLES = {"system", "user", "assistant"}


def read_source(
    config: Mapping[str, Any], file: Path | None, folder: Path | None, where: str
) -> list[Row]:
    """Reads, maps and checks the rows of one source.

    Args:
        config: the source as the plan put it into the key.
        file: the local file, if the source is one.
        folder: the fetched hub data set, if it is one.
        where: named in errors, e.g. ``data.train``.

    Returns:
        Rows with ``id`` and the fields of the format.

    Raises:
        DataError: empty, unreadable or ill-formed rows; one line with place and remedy.
    """
    place = f"{where}: {shown(file) if file else config.get('repo') or 'generator'}"
    raw = list(_raw_rows(config, file, folder))
    if not raw:
        raise DataError(f"{place}: holds no rows; point {where} at a file with rows")
    columns = dict(config.get("columns") or {})
    rows = [
        _checked(_mapped(row, columns), str(config["format"]), index, place)
        for index, row in enumerate(raw)
    ]
    _require_unique_ids(rows, place)
    if config.get("fraction") is not None:
        rows = take_fraction(rows, float(config["fraction"]), int(config["seed"]))
    if config.get("prompt") is not None:
        rows = [{**row, "text": fill(str(config["prompt"]), row, place)} for row in rows]
    return rows


def _raw_rows(config: Mapping[str, Any], file: Path | None, folder: Path | None) -> Iterable[Row]:
    if file is not None:
        reader = _READERS.get(file.suffix.lower())
        if reader is None:
            raise DataError(
                f"{shown(file)}: {file.suffix or 'no suffix'} is not read; "
                f"use one of {', '.join(sorted(_READERS))}"
            )
        try:
            return reader(file)
        except UnicodeDecodeError as error:
            raise DataError(f"{shown(file)}: not UTF-8 ({error.reason}); save it so") from None
    if folder is not None:
        from pipeline.data.hub_dataset import read_hub_dataset

        return read_hub_dataset(folder, config.get("config"), config.get("split") or "train")
    from pipeline.data.generators import generate

    name = config["generator"]["generator"]
    return generate(name, str(config["part"]), int(config.get("seed", 0)))


def _read_jsonl(file: Path) -> list[Row]:
    rows = []
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                rows.append(_json_object(line, f"{shown(file)}:{number}"))
    return rows


def _json_object(text: str, place: str) -> Row:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); mend or remove that line") from None
    if not isinstance(value, dict):
        raise DataError(f"{place}: {type(value).__name__}, and a row is a JSON object")
    return value


def _read_json(file: Path) -> list[Row]:
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(file)}: not JSON ({error}); mend it") from None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise DataError(f"{shown(file)}: not a list of objects; use that or .jsonl")
    return value


def _read_csv(file: Path) -> list[Row]:
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
        rows = []
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{shown(file)}:{reader.line_num}: {len(reader.fieldnames or [])} columns "
                        "in the header, another number here; quote the field that holds a comma"
                    )
                rows.append(dict(row))
        except csv.Error as error:
            raise DataError(f"{shown(file)}:{reader.line_num}: {error}; mend that line") from None
    return rows


def _read_parquet(file: Path) -> list[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows: list[Row] = parquet.read_table(file).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{shown(file)}: not Parquet ({str(error).splitlines()[0]})") from None
    return rows


def _read_text(file: Path) -> list[Row]:
    """Documents of a plain text file are separated by blank lines."""
    text = file.read_text(encoding="utf-8-sig")
    return [{"text": part.strip()} for part in re.split(r"\n\s*\n", text) if part.strip()]


_READERS: Mapping[str, Callable[[Path], list[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".md": _read_text,
}


def _mapped(row: Row, columns: Mapping[str, str]) -> Row:
    mapped = {key: value for key, value in row.items() if key not in columns.values()}
    mapped.update({ours: row[theirs] for ours, theirs in columns.items() if theirs in row})
    return mapped


def _checked(row: Row, form: str, index: int, place: str) -> Row:
    for field in FIELDS[form]:
        value = row.get(field)
        if value is None:
            found = ", ".join(sorted(row)) or "nothing"
            raise DataError(
                f"{place}: row {index + 1}: no field {field!r} for format {form} (found {found}); "
                f"map it with columns: {{{field}: THEIR_NAME}}"
            )
        if field == "messages":
            _check_messages(value, f"{place}: row {index + 1}")
        elif field == "label" and isinstance(value, int):
            row = {**row, "label": str(value)}
        elif not isinstance(value, str) or not value.strip():
            raise DataError(
                f"{place}: row {index + 1}: {field} is {json.dumps(value, default=str)[:40]}, "
                "and it must be text that is not empty; mend or remove the row"
            )
    return {**row, "id": str(row.get("id", index))}


def _check_messages(value: Any, place: str) -> None:
    if not isinstance(value, list) or not value:
        raise DataError(f"{place}: messages must be a list that is not empty")
    for message in value:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in _ROLES or not isinstance(content, str):
            raise DataError(
                f"{place}: a message needs role (one of {', '.join(sorted(_ROLES))}) and "
                f"text content, and it is {json.dumps(message, default=str)[:60]}"
            )
    if value[-1]["role"] != "assistant":
        raise DataError(f"{place}: the last message is not the assistant's: nothing to learn")


def _require_unique_ids(rows: Iterable[Row], place: str) -> None:
    seen: set[str] = set()
    for row in rows:
        if row["id"] in seen:
            raise DataError(f"{place}: id {row['id']!r} stands twice; ids must be unique")
        seen.add(row["id"])


def fill(template: str, row: Mapping[str, Any], place: str) -> str:
    """Replaces ``{field}`` by the row's value; nothing is evaluated."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in row:
            raise DataError(f"{place}: prompt names {{{match[1]}}}, which rows do not have")
        return str(row[match[1]])

    return _PLACEHOLDER.sub(value, template)


def take_fraction(rows: list[Row], fraction: float, seed: int) -> list[Row]:
    """A seeded share of the rows, stratified by label, at least one of each, order kept."""
    rng = random.Random(seed)
    by_label: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_label[str(row.get("label", ""))].append(index)
    kept: set[int] = set()
    for label in sorted(by_label):
        members = by_label[label]
        rng.shuffle(members)
        kept.update(members[: max(1, round(fraction * len(members)))])
    return [row for index, row in enumerate(rows) if index in kept]
