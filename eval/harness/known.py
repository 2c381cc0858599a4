"""What the harness found before it was stopped: its own cache, under what was asked of whom.

A run that ends well leaves none: the next one asks anew.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.artifact import read_artifact
from pipeline.core.digest import canonical_json, text_digest

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
