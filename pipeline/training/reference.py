"""DPO's reference: what the model thought of each answer before it was trained.

Source: Rafailov et al. 2023, equation 7. The policy starts as the reference, so one pass before
update 0 gives it, and no second model is held while training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.rows import Row
from pipeline.training.packed import Rows
from pipeline.training.parallel import Parallel
from pipeline.training.targets import batch_of
from pipeline.training.trainee import Trainee
from pipeline.training.validation import row_batches, turns


class WithReference:
    """Rows that carry ``reference``: [chosen, rejected] log-probabilities."""

    def __init__(self, rows: Rows, reference_N2: torch.Tensor) -> None:
        self._rows, self._reference = rows, reference_N2

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return {**self._rows[index], "reference": self._reference[index].tolist()}

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return self._rows.lengths()


def reference_of(
    rows: Rows,
    trainee: Trainee,
    config: Mapping[str, Any],
    group: Parallel,
    autocast: Callable[[], AbstractContextManager[Any]],
    rows_at_once: int,
    tokens_at_once: int,
) -> torch.Tensor:
    """Log-probabilities [N, 2] (chosen, rejected) of every row under the model as it stands."""
    module: Any = trainee.module
    module.eval()
    found = torch.zeros((len(rows), 2), dtype=torch.float64, device=group.device)
    # Each row is two answers.
    size = max(1, rows_at_once // 2)
    batches = row_batches(rows.lengths().tolist(), size, tokens_at_once // 2)
    with torch.no_grad(), autocast():
        for number in turns(len(batches), group.rank, group.world):
            members = batches[max(number, 0)]
            unknown = [{**rows[i], "reference": [0.0, 0.0]} for i in members]
            made = batch_of(unknown, trainee, config, None)
            batch = {n: t.to(group.device) for n, t in made.items()}
            values = module.log_probabilities(batch)
            if number >= 0:
                found[members] = values.to(torch.float64)
    module.train()
    # Kept in float32, as the loss computes with it.
    return group.total(found).to("cpu", torch.float32)
