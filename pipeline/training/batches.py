"""Which rows go into which update: a function of seed and step alone."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.errors import TrainingError
from pipeline.modeling.packing_probe import segment_positions

MEGABATCH = 32


def steps_in_all(rows: int, batch: int, epochs: float, max_steps: int | None) -> int:
    """Number of updates: an epoch sees every row, in a last batch that may be smaller."""
    if max_steps is not None:
        return max_steps
    return max(1, math.ceil(epochs * math.ceil(rows / batch)))


class BatchOrder:
    """Global batches of row indices, rows of like length together, seeded by epoch.

    Any step's batch can be asked for by itself, so a resumed run needs no replay.
    """

    def __init__(self, lengths: Sequence[int] | NDArray[np.int64], batch: int, seed: int) -> None:
        if len(lengths) == 0:
            raise TrainingError("data.train: no rows are left to train on")
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self.per_epoch = math.ceil(len(lengths) / batch)
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def at(self, step: int) -> list[int]:
        """Row indices of update ``step`` (from 0)."""
        epoch, position = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._shuffled(epoch))
        return self._epoch[1][position]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        rng = random.Random(self._seed * 1_000_003 + epoch)
        order = list(range(len(self._lengths)))
        rng.shuffle(order)
        mega = self._batch * MEGABATCH
        batches = []
        for start in range(0, len(order), mega):
            part = sorted(order[start : start + mega], key=lambda i: (-self._lengths[i], i))
            batches += [part[i : i + self._batch] for i in range(0, len(part), self._batch)]
        rng.shuffle(batches)
        return batches


def shares(rows: Sequence[int], rank: int, world: int, micro: int) -> list[list[int]]:
    """The micro-batches of one rank: every ``world``-th row, ``micro`` at a time.

    Each rank gets the same number of micro-batches (some may be empty), so that collective
    operations meet.
    """
    most = math.ceil(len(rows) / world)
    mine = list(rows[rank::world])
    return [mine[start : start + micro] for start in range(0, most, micro)]


def collate(
    rows: Sequence[Mapping[str, Any]], pad_id: int, multiple: int = 8
) -> dict[str, torch.Tensor]:
    """Pads rows on the right.

    The first token of each segment of a packed row is no target: it would be predicted from
    the neighbour's last.

    Returns:
        input_ids, attention_mask, supervised: [B, T], T a multiple of ``multiple``; where a row
        is packed (``lengths`` has more than one) position_ids too, from 0 in each segment.
    """
    longest = max(len(row["input_ids"]) for row in rows)
    width = math.ceil(longest / multiple) * multiple
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    supervised = torch.zeros((len(rows), width), dtype=torch.bool)
    positions = torch.zeros((len(rows), width), dtype=torch.long)
    packed = False
    for index, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[index, :length] = torch.tensor(row["input_ids"])
        mask[index, :length] = 1
        flags = row.get("supervised")
        if flags is not None and len(flags):
            supervised[index, :length] = torch.tensor(flags, dtype=torch.bool)
        segments = row.get("lengths") or [length]
        packed |= len(segments) > 1
        positions[index] = segment_positions(segments, width)
    supervised &= positions > 0
    batch = {"input_ids": ids, "attention_mask": mask, "supervised": supervised}
    return {**batch, "position_ids": positions} if packed else batch


def row_weights(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Weights [B, T] of the targets that sum to 1 in each segment, however many it has."""
    wanted = batch["chosen"] if "chosen" in batch else batch["supervised"]
    segment = torch.zeros_like(batch["input_ids"])
    if "position_ids" in batch:
        segment = (batch["position_ids"] == 0).cumsum(dim=1) - 1
    count = torch.zeros_like(segment).scatter_add(1, segment, wanted.long()).gather(1, segment)
    return wanted / count.clamp(min=1)
