"""Loss and measures on the validation split, shared between the processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.core.errors import TrainingError
from pipeline.training.packed import Rows
from pipeline.training.parallel import Parallel
from pipeline.training.scores import GREATER_IS_BETTER, scoreboard_for
from pipeline.training.targets import batch_of, hybrid_totals
from pipeline.training.trainee import Trainee

ROWS_AT_ONCE = 64


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


@dataclass(frozen=True)
class Validator:
    """Judges a model while it is trained.

    Attributes:
        autocast: makes the context in which the model computes.
        metric: by which the best model is chosen.
    """

    rows: Rows
    trainee: Trainee
    config: Mapping[str, Any]
    group: Parallel
    autocast: Callable[[], AbstractContextManager[Any]]
    rows_at_once: int
    tokens_at_once: int

    @property
    def metric(self) -> str:
        """The measure that chooses the best model."""
        named = self.config.get("metric_for_best_model")
        if named is not None:
            return str(named)
        return "accuracy" if self.trainee.kind == "single" else "loss"

    def run(self) -> tuple[dict[str, float], float]:
        """(``validation_*`` figures, score: higher is better).

        Raises:
            TrainingError: the chosen measure is none of this objective's.
        """
        module: Any = self.trainee.module
        module.eval()
        board = scoreboard_for(module, self.trainee.labels)
        hybrid = self.config["objective"] == "hybrid"
        every = (self.rows[i] for i in range(len(self.rows)))
        totals = hybrid_totals(every, self.trainee, self.config) if hybrid else None
        sums = torch.zeros(2, dtype=torch.float64)
        lengths = self.rows.lengths().tolist()
        batches = row_batches(lengths, self.rows_at_once, self.tokens_at_once)
        with torch.no_grad(), self.autocast():
            for number in turns(len(batches), self.group.rank, self.group.world):
                rows = [self.rows[i] for i in batches[max(number, 0)]]
                made = batch_of(rows, self.trainee, self.config, None, totals)
                batch = {n: t.to(self.group.device) for n, t in made.items()}
                summed, count, logits = module.outputs(batch)
                if number >= 0:
                    sums += torch.tensor([float(summed), float(count)], dtype=torch.float64)
                    if logits is not None:
                        board.add(batch, logits)
        module.train()
        board.totals = self.group.total(board.totals.to(self.group.device)).cpu()
        loss, count = self.group.total(sums.to(self.group.device)).tolist()
        figures = {"loss": loss / (count or 1.0), **board.metrics()}
        return {f"validation_{n}": v for n, v in figures.items()}, self._score(figures)

    def _score(self, figures: Mapping[str, float]) -> float:
        if self.metric not in figures:
            raise TrainingError(
                f"train.metric_for_best_model: {self.metric} is not measured for objective "
                f"{self.config['objective']}; use one of {', '.join(sorted(figures))}"
            )
        value = figures[self.metric]
        if not math.isfinite(value):
            raise TrainingError(
                f"train: {self.metric} on the validation split is {value}; lower "
                "train.learning_rate or use precision fp32"
            )
        return value if GREATER_IS_BETTER[self.metric] else -value
