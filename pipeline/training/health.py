"""What stops a training that would end in a model that learned nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.core.errors import TrainingError

# So many updates in a row with no gradient, or with one and the same loss, are no accident.
PATIENCE = 5


class Health:
    """Watches loss and gradient from update to update.

    Only a training that has not moved yet is suspected: one that has learned all there is may
    well end without a gradient.
    """

    def __init__(self, changed: Callable[[], bool], *, fresh: bool) -> None:
        """
        Args:
            changed: whether any weight has changed since the training began here.
            fresh: it does begin here; a resumed one has moved before.
        """
        self._ask = changed
        self._changed, self._unchanged = not fresh, 0
        self._loss: float | None = None
        self._still = self._same = 0
        self._pulled = self._moved = not fresh

    def require(
        self, step: int, loss: float, norm: float, rate: float, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Refuses to go on.

        Args:
            step: the update, from 1.
            loss, norm: of this update, the norm before clipping.
            rate: its learning rate; at zero nothing is expected to move.
            rows: what it was made of.

        Raises:
            TrainingError: a loss or gradient that is no number, a gradient that stays zero, or
                a loss that does not move.
        """
        where = f"update {step} (first row {rows[0]['example_id']})"
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"train: loss {loss} and gradient norm {norm} at {where}; lower "
                "train.learning_rate or use precision fp32"
            )
        self._pulled |= norm > 0.0
        self._moved |= self._loss is not None and loss != self._loss
        self._loss = loss
        self._still += not self._pulled and rate > 0.0
        self._same += not self._moved and rate > 0.0
        if self._still >= PATIENCE:
            raise TrainingError(
                f"train: no gradient in {PATIENCE} updates up to {where}: nothing that is trained "
                "has a part in the loss; check train.target_modules and train.modules_to_save"
            )
        if self._same > PATIENCE:
            raise TrainingError(
                f"train: the loss stays at {loss:.6g} for {self._same} updates up to {where}; "
                "raise train.learning_rate, or check that rows have supervised tokens"
            )
        if not self._changed and rate > 0.0:
            self._changed = self._ask()
            self._unchanged += not self._changed
            if self._unchanged >= PATIENCE:
                self.end(step)

    def end(self, step: int) -> None:
        """Refuses a training, or the first updates of one, that left every weight as it was.

        Raises:
            TrainingError: no weight has changed.
        """
        if self._unchanged and not self._changed:
            raise TrainingError(
                f"train: no weight has changed up to update {step}: the step is smaller than "
                "float32 can add to them; raise train.learning_rate"
            )
