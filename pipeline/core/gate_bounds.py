"""Which bounds a gate may set on which figure, and against what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Metric = Literal[
    "accuracy", "loss", "bits_per_byte", "contamination", "ece",
    "macro_f1", "micro_f1", "entity_f1", "mae", "preference_accuracy",
]  # fmt: skip
Rung = Literal["base", "parent", "control", "chance", "none"]

NAMES = ("superior_by", "not_worse_by", "at_most_ratio", "at_least", "at_most")
RELATIVE = NAMES[:3]
"""Bounds on a comparison; the others are on the figure itself."""

_BETTER = ("superior_by", "not_worse_by")
BOUNDS: Mapping[Metric, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "accuracy": (_BETTER, ("at_least",)),
    "macro_f1": (_BETTER, ("at_least",)),
    "micro_f1": (_BETTER, ("at_least",)),
    "loss": (("at_most_ratio",), ("at_most",)),
    "bits_per_byte": (("at_most_ratio",), ("at_most",)),
    "ece": ((), ("at_most",)),
    "mae": ((), ("at_most",)),
    "contamination": ((), ("at_most",)),
    "entity_f1": ((), ("at_least",)),
    "preference_accuracy": ((), ("at_least",)),
}
"""The bounds that make sense for a metric, against another rung and by itself."""

OF_TEXT: tuple[Metric, ...] = ("loss", "bits_per_byte")
TEXT_RUNGS = ("base", "parent", "none")
"""What text is measured against: a control answers tasks alone."""
