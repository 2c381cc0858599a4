"""Property and source: under which licences the rows stand, down to the L0.

Artifacts of a store lie side by side, each under its key, so manifests lead from a model to all
that went into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from eval.risks.line import Line, Topic, not_measured
from pipeline.core.artifact import Artifact, read_artifact

_NAMES = 5
_TOPIC: Topic = "property and source"
TRAINS = ("train", "train-full")
"""Stages that train."""


def made_of(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """The artifacts and everything that went into them, each once, nearest first."""
    found: dict[str, Artifact] = {}
    waiting = list(artifacts)
    while waiting:
        artifact = waiting.pop(0)
        if artifact.key in found:
            continue
        found[artifact.key] = artifact
        for ref in artifact.manifest.inputs.values():
            below = read_artifact(artifact.path.parent / ref["key"])
            if below is not None:
                waiting.append(below)
    return list(found.values())


def origin_lines(artifacts: Sequence[Artifact], data: Sequence[Artifact]) -> list[Line]:
    """Licences of the sources of every training row, and of the base.

    Args:
        artifacts: the model's and everything below it, see ``made_of``.
        data: the Datasets that it was trained on, see ``trained_on``.
    """
    given: dict[str, list[str]] = {}
    unknown: list[str] = []
    rows: dict[bool, int] = {True: 0, False: 0}
    for name, licence, count in _sources(data):
        rows[licence is not None] += count
        mine = unknown if licence is None else given.setdefault(licence, [])
        if name not in mine:
            mine.append(name)
    how = "read from the manifests, from the model down to its L0"
    lines = []
    what = "licences of the training rows' sources"
    if given or unknown:
        told = "; ".join(f"{licence}: {_listed(names)}" for licence, names in sorted(given.items()))
        lines.append(
            Line(_TOPIC, what, f"{told} (n = {rows[True]:,} rows)", how, n=rows[True])
            if given
            else not_measured(_TOPIC, what, "no source says under which licence its rows stand")
        )
        total = rows[True] + rows[False]
        what = "training rows whose source names no licence"
        shown = f"{rows[False]:,} of {total:,}" + (f": {_listed(unknown)}" if unknown else "")
        lines.append(Line(_TOPIC, what, shown, how, rows[False] / max(total, 1), n=total))
    else:
        lines.append(not_measured(_TOPIC, what, "no training rows were found below the model"))
    lines += [_base(artifact) for artifact in artifacts if artifact.manifest.stage == "fetch"]
    return lines


def _sources(data: Sequence[Artifact]) -> Iterator[tuple[str, str | None, int]]:
    """(name, licence or None, rows read) of every source that was trained on."""
    for artifact in data:
        for source in artifact.manifest.facts.get("sources", ()):
            if source["split"] == "train":
                yield _name(source), source.get("licence") or None, int(source["read"])


def trained_on(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """The Datasets of every training among the artifacts, each once.

    Not all Datasets below a model: some were only compared with.
    """
    known = {artifact.key: artifact for artifact in artifacts}
    keys = [a.manifest.inputs["data"]["key"] for a in known.values() if a.manifest.stage in TRAINS]
    return [known[key] for key in dict.fromkeys(keys) if key in known]


def _name(source: Mapping[str, Any]) -> str:
    generator = source.get("generator")
    if generator:
        return str(generator["generator"])
    return str(next((source[k] for k in ("repo", "url", "name") if source.get(k)), "a local file"))


def _base(artifact: Artifact) -> Line:
    """A fetched base: its rows are known to its makers alone."""
    origin = artifact.manifest.facts.get("origin", "a folder")
    card = artifact.path / "README.md"
    licence = licence_of_card(card.read_text(encoding="utf-8")) if card.is_file() else None
    what = f"licence of the base {origin}"
    if licence is None:
        why = "its folder has no model card that names one, and its training rows are not told"
        return not_measured(_TOPIC, what, why)
    how = "from the head of the base's own README.md; its training rows are not told there"
    return Line(_TOPIC, what, licence, how)


def licence_of_card(card: str) -> str | None:
    """``license:`` of a model card's metadata."""
    head = card.split("---")[1] if card.startswith("---") and card.count("---") > 1 else ""
    for line in head.splitlines():
        if line.startswith("license:"):
            return line.partition(":")[2].strip().strip("\"'") or None
    return None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
