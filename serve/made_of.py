"""What a bundle was made of, as it stands in bundle.json: every artifact from the base up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact, read_artifact
from pipeline.core.digest import canonical_json, text_digest


def lineage_of(inputs: Mapping[str, Artifact], config: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe and stages of a bundle that is being made.

    Args:
        inputs: the artifacts that go in; what they were made of lies beside them.
        config: the bundle's own settings.

    Returns:
        ``recipe``: SHA-256 over all of the recipe's settings that change the result, its
        ancestors' among them: the bundle's own, and each stage's key, which is made of the others.
        ``stages``: each artifact once, after those that went into it. Of one that was deleted
        since, its key and digest alone are known.
    """
    stages = _in_order(inputs[role] for role in sorted(inputs))
    told = canonical_json([config, sorted(stage["key"] for stage in stages)])
    return {"recipe": text_digest(told), "stages": stages}


def _in_order(tops: Iterable[Artifact]) -> list[dict[str, Any]]:
    ordered: dict[str, dict[str, Any]] = {}
    # A stack of its own: a long chain must not meet Python's.
    waiting: list[tuple[Artifact, bool]] = [(top, False) for top in reversed([*tops])]
    while waiting:
        artifact, ready = waiting.pop()
        if artifact.key in ordered:
            continue
        refs = sorted(artifact.manifest.inputs.items())
        if ready:
            ordered[artifact.key] = {
                "stage": artifact.manifest.stage,
                "kind": artifact.manifest.kind,
                "key": artifact.key,
                "digest": artifact.digest,
                "inputs": {role: ref["key"] for role, ref in refs},
            }
            continue
        waiting.append((artifact, True))
        for _, ref in reversed(refs):
            below = _beside(artifact.path, ref["key"])
            if below is not None:
                waiting.append((below, False))
            else:
                ordered.setdefault(ref["key"], {**ref, "stage": "", "kind": "", "inputs": {}})
    return list(ordered.values())


def _beside(path: Path, key: str) -> Artifact | None:
    return read_artifact(path.parent / key)
