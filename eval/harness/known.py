"""What the harness found before it was stopped: its own cache, under what was asked of whom.

A run that ends well leaves none: the next one asks anew. A checkpoint is known by its weights.
Of a served model nobody sees them: what was found is taken only where the user says so.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pipeline.core.artifact import read_artifact
from pipeline.core.digest import canonical_json, text_digest
from pipeline.core.errors import UserError

_FOLDER = "known"
_TOLD = re.compile(r"Cached requests: (\d+), Requests remaining: \d+")


def known_file(out: Path, wishes: Mapping[str, Any]) -> Path:
    """Where answers to such wishes are kept within a run's folder; not how many are asked for.

    Args:
        out: the run's folder.
        wishes: what the harness's process is told; ``model`` says whom it asks.
    """
    model = dict(wishes["model"])
    # At how many requests at once changes no answer.
    model.pop("concurrency", None)
    for name in ("root", "adapter"):
        if model.get(name) is not None:
            model[name] = _weights(Path(model[name]))
    return out / _FOLDER / text_digest(canonical_json([model, wishes["ids"]]))[:16]


def forget(out: Path) -> None:
    """Removes what is kept."""
    shutil.rmtree(out / _FOLDER, ignore_errors=True)


def require_settled(out: Path, model: Mapping[str, Any]) -> None:
    """Refuses to go on over answers of a served model, behind whose name others may lie by now.

    Args:
        model: what the harness's process is told of it.

    Raises:
        UserError: names the folder, and how to settle it.
    """
    files = [known_file(out, {"model": model, "ids": ids}) for ids in (False, True)]
    count = sum(_answers_in(path) for file in files for path in out.glob(f"{_FOLDER}/{file.name}*"))
    if count:
        raise UserError(
            f"--harness: {out} holds {count} answers of a run that was stopped, and nobody can "
            "tell whether the same weights answer today; give --earlier keep to take them, or "
            "--earlier drop to ask anew"
        )


def _answers_in(file: Path) -> int:
    """Rows of one of the harness's caches (SqliteDict's table); none of one barely begun."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as found:
            return int(found.execute("SELECT count(*) FROM unnamed").fetchone()[0])
    except sqlite3.Error:
        return 0


def taken_over(log: str) -> int:
    """Answers that were known already, by the harness's log."""
    return sum(int(count) for count in _TOLD.findall(log))


def _weights(folder: Path) -> Any:
    """What the weights in a folder are: their digest, or, outside a store, names, sizes, times."""
    artifact = read_artifact(folder)
    if artifact is not None:
        return artifact.digest
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
