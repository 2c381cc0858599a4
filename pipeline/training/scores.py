"""Measures on the validation split, from counts that add up over batches and processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from pipeline.core import tallies
from pipeline.core.entities import spans_of
from pipeline.core.objectives import LOWER_IS_BETTER, OBJECTIVES
from pipeline.data.arrow import IGNORED
from pipeline.modeling.predictions import chosen
from pipeline.training.modules import head_of, kind_of

Batch = Mapping[str, torch.Tensor]

GREATER_IS_BETTER: Mapping[str, bool] = {
    name: name not in LOWER_IS_BETTER for info in OBJECTIVES.values() for name in info.measured
}


class Scoreboard:
    """Collects one validation.

    Attributes:
        totals: float64 counts; those of several boards over different rows add up.
    """

    def __init__(self, kind: str, labels: Sequence[str] = (), value_std: float = 1.0) -> None:
        """An empty board.

        Args:
            kind: what is judged, as ``modules.kind_of`` says.
            labels: names of the logits; only of tags the names count.
            value_std: makes errors of standardised values those of the values.
        """
        self._kind, self._labels, self._value_std = kind, tuple(labels), value_std
        self._count: Callable[[Batch, torch.Tensor], torch.Tensor] = {
            "single": self._single, "multi": self._multi, "tag": self._tagged,
            "regress": self._valued, "preference": self._preferred,
        }.get(kind, self._nothing)  # fmt: skip
        size = {"tag": 5, "regress": 5, "preference": 2, "text": 1}.get(kind, 2 + 3 * len(labels))
        self.totals = torch.zeros(size, dtype=torch.float64)

    def add(self, batch: Batch, logits: torch.Tensor) -> None:
        """Counts what a module's ``outputs`` gave for a batch."""
        self.totals += self._count(batch, logits).double().cpu()

    def metrics(self) -> dict[str, float]:
        """Name to figure; none before the first row.

        F1 of a label that is neither gold nor answered takes no part in the macro mean, and r2
        is absent where the gold values do not vary.
        """
        totals = self.totals.tolist()
        if self._kind == "text" or totals[0] == 0:
            return {}
        if self._kind == "preference":
            return {"reward_accuracy": totals[1] / totals[0]}
        if self._kind == "tag":
            return {"accuracy": totals[1] / totals[0], "entity_f1": float(tallies.f1(totals[2:]))}
        if self._kind == "regress":
            rows, absolute, squared, gold, gold_squared = totals
            found = {"mae": self._value_std * absolute / rows}
            r2 = float(tallies.r2(*np.array([rows, squared, gold, gold_squared])))
            return found if math.isnan(r2) else {**found, "r2": r2}
        counts_3L = self.totals[2:].view(3, -1).numpy()
        return {
            "accuracy": totals[1] / totals[0],
            "macro_f1": float(tallies.macro_f1(counts_3L)),
            "micro_f1": float(tallies.micro_f1(counts_3L)),
        }

    def _nothing(self, _batch: Batch, _logits: torch.Tensor) -> torch.Tensor:
        return self.totals.new_zeros(1)

    def _single(self, batch: Batch, logits_BL: torch.Tensor) -> torch.Tensor:
        size = len(self._labels)
        gold_BL = torch.nn.functional.one_hot(batch["labels"], size).bool()
        answer_BL = torch.nn.functional.one_hot(logits_BL.argmax(dim=1), size).bool()
        return _label_counts(gold_BL, answer_BL)

    def _multi(self, batch: Batch, logits_BL: torch.Tensor) -> torch.Tensor:
        return _label_counts(batch["labels"] > 0.5, chosen(logits_BL))

    def _tagged(self, batch: Batch, logits_BTL: torch.Tensor) -> torch.Tensor:
        tags_BT, answer_BT = batch["tags"].cpu(), logits_BTL.argmax(dim=2).cpu()
        tagged_BT = tags_BT != IGNORED
        same = answer_BT[tagged_BT] == tags_BT[tagged_BT]
        right, answered, gold = 0, 0, 0
        for tags, answers, tagged in zip(tags_BT, answer_BT, tagged_BT, strict=True):
            wanted, found = self._spans(tags[tagged]), self._spans(answers[tagged])
            right, answered = right + len(wanted & found), answered + len(found)
            gold += len(wanted)
        return torch.tensor([len(same), int(same.sum()), right, answered, gold])

    def _spans(self, tags: torch.Tensor) -> set[tuple[str, int, int]]:
        return set(spans_of([self._labels[tag] for tag in tags.tolist()]))

    def _valued(self, batch: Batch, found_B: torch.Tensor) -> torch.Tensor:
        gold_B = batch["values"].double()
        error_B = found_B.double() - gold_B
        rows = torch.ones_like(gold_B)
        return torch.stack([rows, error_B.abs(), error_B**2, gold_B, gold_B**2]).sum(dim=1)

    def _preferred(self, _batch: Batch, rewards_B2: torch.Tensor) -> torch.Tensor:
        better = (rewards_B2[:, 0] > rewards_B2[:, 1]).sum()
        return torch.stack([torch.tensor(len(rewards_B2), device=better.device), better])


def scoreboard_for(module: nn.Module, labels: Sequence[str]) -> Scoreboard:
    """The empty board of a module that ``modules.module_for`` made."""
    kind = kind_of(module)
    std = head_of(module).value_std if kind == "regress" else 1.0
    return Scoreboard(kind, labels, std)


def _label_counts(gold_BL: torch.Tensor, answer_BL: torch.Tensor) -> torch.Tensor:
    """Rows, rows exactly right, then of each label: right, answered, gold."""
    exact_B = (gold_BL == answer_BL).all(dim=1)
    per_label = torch.stack([gold_BL & answer_BL, answer_BL, gold_BL]).sum(dim=1)
    rows = torch.stack([torch.ones_like(exact_B), exact_B]).sum(dim=1)
    return torch.cat([rows, per_label.flatten()])
