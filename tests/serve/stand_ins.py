"""Artifacts and settings that a bundle's stages are given in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact, Manifest


def serve(length: int | None = None, **more: Any) -> dict[str, Any]:
    """A recipe's `serve` as the plan hands it to a stage."""
    told = {"sampling": {}, "stop": [], "stop_token_ids": [], "engine": {}, **more}
    return {"serve": {"max_model_len": length, **told}}


def artifact(path: Path, digest: str = "", **facts: Any) -> Artifact:
    """A folder as an artifact, made of nothing."""
    kind, key = "Model", f"{path.name}-{digest}"
    return Artifact(path, Manifest(kind, key, digest, "", 1, {}, {}, {}, {}, {}, facts))
