"""`gradus init`: looks at a file of rows and writes a first recipe that runs."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.core.errors import GradusError, UserError
from pipeline.core.objectives import OF_HEADS_ALONE
from pipeline.core.recipe import load_recipe, shown
from pipeline.data.detection import Detected
from pipeline.data.formats import label_problems
from pipeline.data.rows import Row, whole_text
from pipeline.first_recipe_base import FirstBase, look_at_base
from pipeline.first_recipe_rows import FEWEST_ROWS, Seen, look
from pipeline.first_recipe_text import recipe_text

__all__ = ["FEWEST_ROWS", "write_first_recipe"]
# Ends each answer with the tokenizer's own end of text, which every engine stops at.
_TEMPLATE = (
    "{% for message in messages %}{{ '' if loop.first else '\\n' }}"
    "{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\nAssistant:' }}{% endif %}"
)


def write_first_recipe(
    data: Path, base: str, out: Path | None, tell: Callable[[str], None] = lambda _line: None
) -> Path:
    """Writes a recipe for ``data`` over ``base``, with its split files beside it.

    Args:
        data: csv, tsv, jsonl, json, parquet or txt with at least 20 rows.
        base: a recipe, a hub id or a model folder.
        out: the recipe to write, or a folder for it; None: NAME.yaml in the working folder.
        tell: told what became of the rows.

    Returns:
        The path of the recipe, which loads.

    Raises:
        UserError: data or base are missing, rows fit no format, or a file would be overwritten.
    """
    if data.is_dir():
        raise UserError(f"--data {data}: a folder; name a file, or write its recipe by hand")
    if not data.is_file():
        raise UserError(f"--data {data}: no such file; check the path")
    if out is None or out.is_dir():
        out = (out or Path()) / f"{_slug(data.stem)}.yaml"
    name = _slug(out.stem)
    if out.suffix not in {".yaml", ".yml"}:
        raise UserError(f"--out {out}: not a recipe's name; write --out {out}.yaml")
    about = look_at_base(base, out.resolve().parent)
    seen = look(data)
    twice = [line for line in label_problems(seen.found.labels) if " differ by " in line]
    if twice:
        # `prepare` would stop on them, with the rows copied already.
        raise UserError(f"--data {data}: {twice[0]}")
    if name in about.names:
        name = f"{name[:59]}-l2"
    files = {f"{name}-{split}.jsonl": _lines(rows)
             for split, rows in (("train", seen.train), ("test", seen.test))}  # fmt: skip
    template = None
    objectives = _objectives(seen.found, about, data)
    if not about.template and {"sft", "dpo"} & set(objectives):
        template = f"{name}.jinja"
        files[template] = _TEMPLATE
    files[out.name] = _recipe(name, out, seen, about, objectives, template)
    _write(out, files)
    tell(
        f"{out}: {len(seen.train):,} rows of {data} in {name}-train.jsonl; {len(seen.test):,} were "
        f"drawn for its test split, {name}-test.jsonl (name a file of your own in data.test)"
    )
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


def _objectives(found: Detected, base: FirstBase, data: Path) -> list[str]:
    if found.form == "text":
        return ["mlm" if base.kind == "encoder" else "cpt"]
    if found.form == "classification":
        return ["classify"] if base.kind == "encoder" else ["sft", "classify"]
    if found.form in OF_HEADS_ALONE:
        return [OF_HEADS_ALONE[found.form]]
    if base.kind == "encoder":
        raise UserError(
            f"--base {base.written}: an encoder cannot write the answers of {shown(data)}; "
            "name a causal model"
        )
    return ["dpo" if found.form == "preference" else "sft"]


def _slug(stem: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:60] or "first"


def _lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def _recipe(
    name: str, out: Path, seen: Seen, base: FirstBase, objectives: list[str], template: str | None
) -> str:
    texts = [whole_text(row) for row in seen.canonical]
    longest = max(len(text.encode()) for text in texts)
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
        lengths=(round(statistics.median(map(len, texts))), max(map(len, texts))),
        carve=seen.carve,
        max_length=max(32, min(needed, base.limit, 2048)),
        max_new_tokens=longest_label + 2 if "sft" in objectives and longest_label > 22 else None,
        template=template,
        left_out=[f"{row.place}: {row.reason}" for row in seen.left_out],
    )
