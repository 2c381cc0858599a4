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
Placed = tuple[str, Row]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "question_answer": ("question", "answer"),
    "classification": ("text", "label"),
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ROLES = {"system", "user", "assistant"}
_LONGEST_FIELD = 1 << 26


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
    raw = list(_raw_rows(config, file, folder, place))
    if not raw:
        raise DataError(f"{place}: holds no rows; point {where} at a file with rows")
    columns = dict(config.get("columns") or {})
    rows = checked_rows(raw, columns, str(config["format"]), place)
    if config.get("fraction") is not None:
        rows = take_fraction(rows, float(config["fraction"]), int(config["seed"]))
    if config.get("prompt") is not None:
        rows = [
            {
                **row,
                "source_text": row.get("text", ""),
                "text": fill(str(config["prompt"]), row, place),
            }
            for row in rows
        ]
    return rows


def checked_rows(raw: list[Placed], columns: Mapping[str, str], form: str, place: str) -> list[Row]:
    """Rows with ``id`` and the fields of their format.

    Raises:
        DataError: a row that does not fit, by its place.
    """
    _require_columns(columns, raw, place)
    rows = [_checked(_mapped(row, columns), form, index, at) for index, (at, row) in enumerate(raw)]
    _require_unique_ids(rows, place)
    return rows


def _raw_rows(
    config: Mapping[str, Any], file: Path | None, folder: Path | None, place: str
) -> Iterable[Placed]:
    if file is not None:
        return read_file(file)
    if folder is not None:
        from pipeline.data.hub_dataset import read_hub_dataset

        found = read_hub_dataset(folder, config.get("config"), config.get("split") or "train")
        return _counted(found, place)
    from pipeline.data.generators import generate

    name = config["generator"]["generator"]
    return _counted(generate(name, str(config["part"]), int(config.get("seed", 0))), place)


def read_file(file: Path) -> list[Placed]:
    """The rows of a local file as they stand there, each with its place.

    Raises:
        DataError: a suffix nobody reads, or a file that is not what its suffix says.
    """
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
    except OSError as error:
        raise DataError(f"{shown(file)}: {error.strerror}; check the path") from None


def _counted(rows: Iterable[Row], place: str) -> list[Placed]:
    """Rows without lines of their own: named by their number."""
    return [(f"{place}: row {number}", row) for number, row in enumerate(rows, 1)]


def _read_jsonl(file: Path) -> list[Placed]:
    rows = []
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                place = f"{shown(file)}:{number}"
                rows.append((place, _json_object(line, place)))
    return rows


def _json_object(text: str, place: str) -> Row:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); mend or remove that line") from None
    if not isinstance(value, dict):
        raise DataError(f"{place}: {text.strip()[:40]}: a row is a JSON object; write one a line")
    return value


def _read_json(file: Path) -> list[Placed]:
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(file)}: not JSON ({error}); mend it") from None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise DataError(f"{shown(file)}: not a list of objects; use that or .jsonl")
    return _counted(value, shown(file))


def _read_csv(file: Path) -> list[Placed]:
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(_LONGEST_FIELD)
    rows = []
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise DataError(f"{shown(file)}:1: a column name stands twice; rename one")
            for row in reader:
                place = f"{shown(file)}:{reader.line_num}"
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{place}: {len(header)} columns in the header, {len(row)} here; "
                        "quote the field that holds a delimiter"
                    )
                rows.append((place, dict(zip(header, row, strict=True))))
        except csv.Error as error:
            raise DataError(f"{shown(file)}:{reader.line_num}: {error}; mend that line") from None
    return rows


def _read_parquet(file: Path) -> list[Placed]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows: list[Row] = parquet.read_table(file).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{shown(file)}: not Parquet ({reason}); write it again") from None
    return _counted(rows, shown(file))


def _read_text(file: Path) -> list[Placed]:
    """Documents of a plain text file are separated by blank lines."""
    text = file.read_text(encoding="utf-8-sig")
    parts = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    return _counted([{"text": part} for part in parts], shown(file))


_READERS: Mapping[str, Callable[[Path], list[Placed]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".md": _read_text,
}


def _require_columns(columns: Mapping[str, str], raw: Iterable[Placed], place: str) -> None:
    found = {name for _, row in raw for name in row}
    for ours, theirs in columns.items():
        # Local rows often carry our names already: then there is nothing to map.
        if theirs not in found and ours not in found:
            raise DataError(
                f"{place}: columns: {ours}: {theirs!r} is no column of any row "
                f"(found {', '.join(sorted(map(str, found)))[:120]}); name one of those"
            )


def _mapped(row: Row, columns: Mapping[str, str]) -> Row:
    mapped = {key: value for key, value in row.items() if key not in columns.values()}
    mapped.update({ours: row[theirs] for ours, theirs in columns.items() if theirs in row})
    return mapped


def _checked(row: Row, form: str, index: int, place: str) -> Row:
    for field in FIELDS[form]:
        value = row.get(field)
        if value is None:
            found = ", ".join(sorted(map(str, row)))[:120] or "nothing"
            raise DataError(
                f"{place}: no field {field!r} for format {form} (found {found}); "
                f"map it with columns: {{{field}: THEIR_NAME}}"
            )
        if field == "messages":
            _check_messages(value, place)
        elif field == "label" and isinstance(value, int):
            row = {**row, "label": str(value)}
        elif field == "label" and isinstance(value, str):
            # Outer blanks (a CSV's `text, label`) would make a label that nobody can write.
            row = {**row, "label": value.strip()}
        elif not _is_text(value) or not value.strip():
            raise DataError(
                f"{place}: {field} is {json.dumps(value, default=str)[:40]}, "
                "and it must be text that is not empty; mend or remove the row"
            )
    if form != "classification":
        # Labels that the format does not read must neither steer a split nor stop a run.
        row = {key: value for key, value in row.items() if key != "label"}
    given = row.get("id")
    return {**row, "id": str(index if given in (None, "") else given)}


def _is_text(value: Any) -> bool:
    """Text that UTF-8 can hold: JSON may escape half a surrogate pair, which nothing can."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _check_messages(value: Any, place: str) -> None:
    if not isinstance(value, list) or not value:
        raise DataError(f"{place}: messages must be a list that is not empty; mend the row")
    for message in value:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in _ROLES or not _is_text(content):
            raise DataError(
                f"{place}: a message needs role (one of {', '.join(sorted(_ROLES))}) and "
                f"text content, and it is {json.dumps(message, default=str)[:60]}; mend the row"
            )
    if value[-1]["role"] != "assistant" or not value[-1]["content"].strip():
        raise DataError(
            f"{place}: the last message is not an assistant's answer: nothing to learn; "
            "end it with one or remove the row"
        )


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
            raise DataError(
                f"{place}: prompt names {{{match[1]}}}, which rows do not have; name a column"
            )
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
