"""How far the last answers of a head are from what it answered on validation."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

WINDOW = 1_000
"""Answers that are looked at. With fewer, and with many labels, chance alone makes a distance:
about the square root of labels / (6 * answers)."""


class Drift:
    """The last answers of one head."""

    def __init__(self, validation: Mapping[str, Any]) -> None:
        """
        Args:
            validation: ``labels`` (share for which each is the likeliest), ``confidence`` (mean
                probability of the likeliest) and ``abstained`` (share); what is missing has no
                drift.
        """
        self._validation = validation
        self._since = -math.inf
        self._last: deque[tuple[str, float, bool]] = deque(maxlen=WINDOW)

    def answered(
        self, label: str, probability: float, *, abstained: bool, began: float | None = None
    ) -> None:
        """One more answer; the oldest beyond the window is forgotten.

        Args:
            began: by ``time.monotonic``; an answer of the version before is left out.
        """
        if began is None or began >= self._since:
            self._last.append((label, probability, abstained))

    def measure_by(self, validation: Mapping[str, Any]) -> None:
        """From now on by another version's validation; answers of before are forgotten."""
        self._validation = validation
        self._last.clear()
        self._since = time.monotonic()

    def answers(self) -> int:
        """How many are looked at."""
        return len(self._last)

    def labels(self) -> float:
        """Total variation distance of the labels' shares, 0 (the same) to 1; NaN without any."""
        there: Mapping[str, float] = self._validation.get("labels") or {}
        if not self._last or not there:
            return math.nan
        counts = Counter(label for label, _, _ in self._last)
        names = there.keys() | counts.keys()
        total = len(self._last)
        return sum(abs(counts[name] / total - there.get(name, 0.0)) for name in names) / 2

    def probability(self) -> float:
        """Mean probability of the likeliest, less validation's."""
        return self._less("confidence", [probability for _, probability, _ in self._last])

    def abstained(self) -> float:
        """Share of abstentions, less validation's."""
        return self._less("abstained", [float(silent) for _, _, silent in self._last])

    def _less(self, name: str, values: list[float]) -> float:
        there = self._validation.get(name)
        if not values or there is None:
            return math.nan
        return math.fsum(values) / len(values) - float(there)
