"""The account of a `prepare`: every row that was read is kept or stands under one reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# In the order in which a row meets them; a split's figures are printed in it.
REASONS = (
    "quarantined",
    "cleaned",
    "sampled out",
    "duplicate",
    "near-duplicate",
    "contaminated",
    "label error",
    "balance",
    "made from a held-out row",
    "over-length",
    "to validation",
    "to test",
)


@dataclass
class Funnel:
    """The figures of one split.

    Attributes:
        read: rows of its sources, refused ones too.
        received: rows that came from another split (carved).
        lost: reason to rows, of REASONS.
        kept: rows that are trained on or judged.
        details: what a step did that loses no row: reason to count.
    """

    read: int = 0
    received: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    details: Counter[str] = field(default_factory=Counter)

    def lose(self, reason: str, rows: int = 1) -> None:
        """Counts rows that are not kept.

        Raises:
            KeyError: a reason that no funnel prints.
        """
        if reason not in REASONS:
            raise KeyError(reason)
        if rows:
            self.lost[reason] += rows

    @property
    def adds_up(self) -> bool:
        """Whether every row is accounted for."""
        return self.read + self.received == self.kept + sum(self.lost.values())

    def to_json(self) -> dict[str, Any]:
        """For the manifest: reasons in order, details apart."""
        lost = {reason: self.lost[reason] for reason in REASONS if self.lost[reason]}
        return {
            "read": self.read,
            **({"received": self.received} if self.received else {}),
            **lost,
            "kept": self.kept,
            "details": dict(sorted(self.details.items())),
        }


def require_sum(splits: Mapping[str, Funnel]) -> None:
    """A funnel that does not add up is a defect of gradus, never printed as if it did.

    Raises:
        RuntimeError: with the figures.
    """
    for name, funnel in splits.items():
        if not funnel.adds_up:
            raise RuntimeError(f"the funnel of {name} does not add up: {funnel.to_json()}")
