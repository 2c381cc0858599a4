"""Passes without gradients over a split, shared between the processes of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.training.packed import Rows
from pipeline.training.parallel import Parallel
from pipeline.training.targets import Batch, Totals, batch_of
from pipeline.training.trainee import Trainee

ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Passes:
    """How a training looks at its own rows.

    Attributes:
        autocast: makes the context in which the model computes.
        rows_at_once, tokens_at_once: of one forward pass, at the most.
    """

    trainee: Trainee
    config: Mapping[str, Any]
    group: Parallel
    autocast: Callable[[], AbstractContextManager[Any]]
    rows_at_once: int
    tokens_at_once: int

    def over(
        self,
        rows: Rows,
        work: Callable[[list[int] | None, Batch], None],
        totals: Totals | None = None,
    ) -> None:
        """Hands every batch of this process to ``work``.

        Args:
            work: takes the rows' numbers and their batch on the device; None where this process
                only keeps step with those that still have rows.
            totals: see ``targets.batch_of``.
        """
        # Of a pair two texts are read.
        texts = 2 if self.config["objective"] == "dpo" else 1
        batches = row_batches(
            rows.lengths().tolist(), self.rows_at_once // texts, self.tokens_at_once // texts
        )
        self.trainee.module.eval()
        with torch.no_grad(), self.autocast():
            for number in turns(len(batches), self.group.rank, self.group.world):
                members = batches[max(number, 0)]
                made = batch_of([rows[i] for i in members], self.trainee, self.config, None, totals)
                batch = {name: tensor.to(self.group.device) for name, tensor in made.items()}
                work(members if number >= 0 else None, batch)
        self.trainee.module.train()


def row_batches(lengths: Sequence[int], most_rows: int, most_tokens: int) -> list[list[int]]:
    """Rows of like length together, so that little is padded; a function of the lengths alone."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    size = max(1, min(most_rows, most_tokens // max(1, *lengths)))
    return [order[start : start + size] for start in range(0, len(order), size)]


def turns(batches: int, rank: int, world: int) -> list[int]:
    """The batches of one process: as many for each, -1 where it only keeps step."""
    most = -(-batches // world)
    mine = list(range(rank, batches, world))
    return mine + [-1] * (most - len(mine))
