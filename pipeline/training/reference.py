"""DPO's reference: what the model thought of each answer before it was trained.

Source: Rafailov et al. 2023, equation 7. The policy starts as the reference, so one pass before
update 0 gives it, and no second model is held while training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.rows import Row
from pipeline.training.packed import Rows
from pipeline.training.passes import Passes
from pipeline.training.targets import Batch


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


def reference_of(rows: Rows, passes: Passes) -> torch.Tensor:
    """Log-probabilities [N, 2] (chosen, rejected) of every row under the model as it stands."""
    module: Any = passes.trainee.module
    device = passes.group.device
    found = torch.zeros((len(rows), 2), dtype=torch.float64, device=device)

    def note(members: list[int] | None, batch: Batch) -> None:
        values = module.log_probabilities(batch)
        if members is not None:
            found[members] = values.to(torch.float64)

    passes.over(rows, note)
    # Kept in float32, as the loss computes with it.
    return passes.group.total(found).to("cpu", torch.float32)
