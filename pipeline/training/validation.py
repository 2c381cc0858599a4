"""Loss and measures on the validation split, shared between the processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from pipeline.core.errors import TrainingError
from pipeline.training.packed import Rows
from pipeline.training.passes import Passes
from pipeline.training.scores import GREATER_IS_BETTER, scoreboard_for
from pipeline.training.targets import Batch, Totals, hybrid_totals


@dataclass(frozen=True)
class Validator:
    """Judges a model while it is trained."""

    rows: Rows
    passes: Passes

    @property
    def metric(self) -> str:
        """The measure that chooses the best model."""
        named = self.passes.config.get("metric_for_best_model")
        if named is not None:
            return str(named)
        return "accuracy" if self.passes.trainee.kind == "single" else "loss"

    def run(self) -> tuple[dict[str, float], float]:
        """(``validation_*`` figures, score: higher is better).

        Raises:
            TrainingError: the chosen measure is none of this objective's, or no number.
        """
        trainee, group = self.passes.trainee, self.passes.group
        module: Any = trainee.module
        board = scoreboard_for(module, trainee.labels)
        sums = torch.zeros(2, dtype=torch.float64)

        def judge(members: list[int] | None, batch: Batch) -> None:
            summed, count, logits = module.outputs(batch)
            if members is not None:
                sums.add_(torch.tensor([float(summed), float(count)], dtype=torch.float64))
                if logits is not None:
                    board.add(batch, logits)

        self.passes.over(self.rows, judge, self._totals)
        board.totals = group.total(board.totals.to(group.device)).cpu()
        loss, count = group.total(sums.to(group.device)).tolist()
        figures = {"loss": loss / (count or 1.0), **board.metrics()}
        return {f"validation_{n}": v for n, v in figures.items()}, self._score(figures)

    @cached_property
    def _totals(self) -> Totals | None:
        """Both losses of a hybrid are means over the whole split, not over what is read at once."""
        if self.passes.config["objective"] != "hybrid":
            return None
        every = (self.rows[index] for index in range(len(self.rows)))
        return hybrid_totals(every, self.passes.trainee, self.passes.config)

    def _score(self, figures: Mapping[str, float]) -> float:
        if self.metric not in figures:
            raise TrainingError(
                f"train.metric_for_best_model: {self.metric} is not measured for objective "
                f"{self.passes.config['objective']}; use one of {', '.join(sorted(figures))}"
            )
        value = figures[self.metric]
        if not math.isfinite(value):
            raise TrainingError(
                f"train: {self.metric} on the validation split is {value}; lower "
                "train.learning_rate or use precision fp32"
            )
        return value if GREATER_IS_BETTER[self.metric] else -value
