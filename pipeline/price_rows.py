"""How many rows and tokens a training reads: from its Dataset, else bounds from its sources."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.store import Store
from pipeline.plan import Node, Plan

# Files whose lines are counted while planning; larger ones would keep the user waiting.
_COUNTED_BYTES = 256 * 1024**2
_LINES = (".jsonl", ".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Rows:
    """What a training reads.

    Attributes:
        lengths: tokens of each row, where they are known: a block counts as one, and of two
            answers to one prompt the longer.
        segments: tokens of each row within blocks, and of each of two answers.
        targets: tokens of all of them that are learned.
        at_most: rows that there can be, where only a bound is known.
        labels: outputs of a head, where they are known.
        packed: rows share blocks.
    """

    lengths: NDArray[np.int64] | None = None
    segments: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    targets: int | None = None
    at_most: int | None = None
    labels: int = 0
    packed: bool = False

    @property
    def count(self) -> int | None:
        """Rows, known or bounded."""
        return self.at_most if self.lengths is None else len(self.lengths)


def rows_of(training: Node, plan: Plan, store: Store) -> Rows:
    """What ``training`` reads."""
    prepared = plan.nodes[training.inputs["data"]]
    made = store.get(prepared.key) if prepared.key is not None else None
    if made is not None:
        return rows_in(made.path, training.config["objective"])
    return Rows(at_most=_bound(prepared), packed=bool(prepared.config.get("packing")))


def rows_in(folder: Path, objective: str) -> Rows:
    """The rows of a prepared Dataset, as this objective learns them."""
    from pipeline.data.arrow import Split

    split = Split(folder / "train.arrow")
    lengths, segments = split.lengths(), split.segment_lengths()
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    info = OBJECTIVES[objective]
    targets = split.learned() or None if info.writes else None
    if info.render == "preference":
        segments = np.concatenate([segments, split.rejected_lengths()])
    return Rows(
        lengths, segments, targets, labels=len(labels),
        packed=bool((split.segments() > 1).any()),
    )  # fmt: skip


def _bound(prepared: Node) -> int | None:
    """Lines of local files, where every source is one; nothing is lost or carved yet."""
    total = 0
    sources = prepared.config["sources"].get("train") or []
    for number, source in enumerate(sources if isinstance(sources, list) else [sources]):
        path = prepared.files.get(f"train{number}")
        if path is None or path.suffix not in _LINES or path.stat().st_size > _COUNTED_BYTES:
            return None
        with path.open("rb") as stream:
            lines = sum(1 for _ in stream)
        total += math.ceil(lines * float(source.get("fraction") or 1.0))
    # More by a few where a class keeps one row of a smaller share.
    total = math.ceil(total * prepared.config.get("thin", {}).get("share", 1.0))
    if prepared.config.get("replay"):
        return None
    return total or None
