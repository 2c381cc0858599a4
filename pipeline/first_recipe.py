"""`gradus init`: looks at a file of rows and writes a first recipe that runs."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.core.errors import DataError, GradusError, UserError
from pipeline.core.recipe import load_recipe, shown
from pipeline.data.detection import Detected, detect
from pipeline.data.rows import Row, checked_rows, read_file
from pipeline.data.splits import carve_validation
from pipeline.first_recipe_base import FirstBase, look_at_base
from pipeline.first_recipe_text import recipe_text

FEWEST_ROWS = 20
_SEED = 1
_TEST_SHARE = 0.1
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.49)
# Ends each answer with the tokenizer's own end of text, which every engine stops at.
_TEMPLATE = (
    "{% for message in messages %}{{ '' if loop.first else '\\n' }}"
    "{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\nAssistant:' }}{% endif %}"
)


@dataclass(frozen=True)
class _Seen:
    """What a look at the data gave."""

    data: Path
    found: Detected
    train: list[Row]
    test: list[Row]
    checked: list[Row]
    carve: float


def write_first_recipe(data: Path, base: str, out: Path | None) -> Path:
    """Writes a recipe for ``data`` over ``base``, with its split files beside it.

    Args:
        data: csv, tsv, jsonl, json, parquet or txt with at least 20 rows.
        base: a recipe, a hub id or a model folder.
        out: the recipe to write, or a folder for it; None: NAME.yaml in the working folder.

    Returns:
        The path of the recipe, which loads.

    Raises:
        UserError: data or base are missing, rows fit no format, or a file would be overwritten.
    """
    if not data.is_file():
        raise UserError(f"--data {data}: no such file; check the path")
    if out is None or out.is_dir():
        out = (out or Path()) / f"{_slug(data.stem)}.yaml"
    name = _slug(out.stem)
    if out.suffix not in {".yaml", ".yml"}:
        raise UserError(f"--out {out}: not a recipe's name; write --out {out}.yaml")
    about = look_at_base(base, out.resolve().parent)
    seen = _look(data)
    if name in about.names:
        name = f"{name[:59]}-l2"
    files = {f"{name}-{split}.jsonl": _lines(rows)
             for split, rows in (("train", seen.train), ("test", seen.test))}  # fmt: skip
    template = None
    objectives = _objectives(seen.found, about, data)
    if "sft" in objectives and not about.template:
        template = f"{name}.jinja"
        files[template] = _TEMPLATE
    files[out.name] = _recipe(name, out, seen, about, objectives, template)
    _write(out, files)
    return out


def _write(out: Path, files: dict[str, str]) -> None:
    """Writes all files and loads the recipe, or leaves none behind."""
    paths = {out.parent / name: text for name, text in files.items()}
    for path in (out, *paths):
        if path.exists():
            raise UserError(f"{path}: is there already; choose another --out or move it away")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            with path.open("x", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
        load_recipe(out)
    except (OSError, GradusError) as error:
        for path in paths:
            path.unlink(missing_ok=True)
        if isinstance(error, GradusError):
            raise
        reason = error.strerror or str(error)
        raise UserError(f"{out}: cannot be written ({reason}); choose another --out") from None


def _look(data: Path) -> _Seen:
    place = f"--data {shown(data)}"
    placed = read_file(data)
    if len(placed) < FEWEST_ROWS:
        raise UserError(
            f"{place}: holds {len(placed)} rows; {FEWEST_ROWS} are the fewest that can be split "
            "into train, validation and test"
        )
    rows = [row for _, row in placed]
    found = detect(rows, place)
    if found.joined is not None:
        rows = [_joined(row, found.columns["prompt"], found.joined) for row in rows]
        placed = [(at, row) for (at, _), row in zip(placed, rows, strict=True)]
        # The written rows have a `prompt` of their own.
        columns = {ours: theirs for ours, theirs in found.columns.items() if ours != "prompt"}
        found = replace(found, columns=columns)
    checked = checked_rows(placed, found.columns, found.form, place)
    index = [{**row, "row": number} for number, row in enumerate(checked)]
    train, test = _split(index, found.by, place)
    return _Seen(
        data,
        found,
        [rows[row["row"]] for row in train],
        [rows[row["row"]] for row in test],
        checked,
        _carve(train, found.by, place),
    )


def _joined(row: Row, prompt: str, joined: str) -> Row:
    extra = str(row.get(joined) or "").strip()
    prompt = str(row[prompt])
    return {**row, "prompt": f"{prompt}\n\n{extra}" if extra else prompt}


def _split(rows: list[Row], by: str | None, place: str) -> tuple[list[Row], list[Row]]:
    try:
        return carve_validation(rows, _TEST_SHARE, by, _SEED, least=1)
    except DataError:
        raise DataError(
            f"{place}: {len(rows)} rows, and none can be held out for a test "
            f"({f'all share one {by}' if by else 'too many are alike'}); add rows that differ"
        ) from None


def _carve(train: list[Row], by: str | None, place: str) -> float:
    """The smallest share that leaves something to validate on."""
    for share in _SHARES:
        try:
            carve_validation(train, share, by, 0)
        except DataError:
            continue
        return share
    raise DataError(
        f"{place}: no label has rows enough for train, validation and test; add rows for each"
    )


def _objectives(found: Detected, base: FirstBase, data: Path) -> list[str]:
    if found.form == "text":
        return ["mlm" if base.kind == "encoder" else "cpt"]
    if found.form == "classification":
        return ["classify"] if base.kind == "encoder" else ["sft", "classify"]
    if base.kind == "encoder":
        raise UserError(
            f"--base {base.written}: an encoder cannot write the answers of {shown(data)}; "
            "name a causal model"
        )
    return ["sft"]


def _slug(stem: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:60] or "first"


def _lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def _recipe(
    name: str, out: Path, seen: _Seen, base: FirstBase, objectives: list[str], template: str | None
) -> str:
    lengths = [_characters(row, seen.found.form) for row in seen.checked]
    longest = max(_bytes(row, seen.found.form) for row in seen.checked)
    longest_label = max((len(label.encode()) for label in seen.found.labels), default=0)
    # A tokenizer takes about four bytes of its own language for a token; two leave room.
    needed = 64 * math.ceil((longest / 2 + 48) / 64)
    return recipe_text(
        name=name,
        path=out.as_posix(),
        data=shown(seen.data),
        base=base.written,
        kind=base.kind,
        found=seen.found,
        objectives=objectives,
        counts=(len(seen.train), len(seen.test)),
        lengths=(round(statistics.median(lengths)), max(lengths)),
        carve=seen.carve,
        max_length=max(32, min(needed, base.limit, 2048)),
        max_new_tokens=longest_label + 2 if "sft" in objectives and longest_label > 22 else None,
        template=template,
    )


def _strings(row: Row, form: str) -> list[str]:
    if form == "messages":
        return [message["content"] for message in row["messages"]]
    fields = ("text", "label", "prompt", "completion", "context", "question", "answer")
    return [str(row[field]) for field in fields if row.get(field) is not None]


def _characters(row: Row, form: str) -> int:
    return sum(map(len, _strings(row, form)))


def _bytes(row: Row, form: str) -> int:
    return sum(len(text.encode()) for text in _strings(row, form))
