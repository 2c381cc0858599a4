"""The tiny family's bundle with golden conversations, from rows that `prepare` itself rendered."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_family import Family

from pipeline.core.artifact import Artifact
from serve.golden import write_golden
from tests.data.preparing import artifact, prepare

LABELS = ("card", "declined", "top_up")
TEXTS = ("My card was declined", "How do I top up?", "I want a new card and I want it by transfer")


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Different texts of three lengths, each length with each label."""
    return [
        {
            "id": f"row-{number}",
            "text": f"{TEXTS[number // 3 % 3]}, {number}",
            "label": LABELS[number % 3],
        }
        for number in range(start, start + count)
    ]


def prepared(base: Path, folder: Path, **config: Any) -> Artifact:
    """A Dataset for a base; sft of classification rows unless told otherwise."""
    splits = config.pop("splits", {"train": rows(20), "validation": rows(12, 100)})
    settings = {"render": "sft", "max_length": 96, **config}
    made, _ = prepare(folder / "data", artifact(base), splits, **settings)
    form = config.get("source", {}).get("format")
    sources = {
        name: {"format": form or ("classification" if "label" in given[0] else "text")}
        for name, given in splits.items()
    }
    told = {"render": settings["render"], "max_length": 96, "sources": sources}
    return replace(made, manifest=replace(made.manifest, config=told))


def golden_bundle(
    family: Family, folder: Path, *, bundle: Path | None = None, dtype: str = "float32",
    base: Path | None = None, data: Artifact | None = None, **config: Any,
) -> Path:  # fmt: skip
    """A copy of a bundle (the family's own) that `write_golden` has completed."""
    data = data or prepared(base or family.base, folder, **config)
    out = folder / "bundle"
    shutil.copytree(bundle or family.bundle, out)
    tree = json.loads((out / "bundle.json").read_text())
    render = json.loads((data.path / "render.json").read_text())
    tree |= {"dtype": dtype, "controls": render["controls"], "system": render["system"]}
    tree |= {"chat_template_kwargs": render["chat_template_kwargs"]}
    tree.setdefault("heads", [])
    (out / "bundle.json").write_text(json.dumps({**tree, "golden": True}))
    assert write_golden(out, tree, base or family.base, data) is not None
    return out
