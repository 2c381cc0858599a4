"""Which rows are asked where not all are: drawn, for a file may be sorted by label or by date."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Row = TypeVar("Row")


def chosen(count: int, limit: int, seed: int) -> list[int]:
    """Which of ``count`` rows are asked: ``limit`` of them at most, drawn by ``seed``, in order.

    Those of a smaller limit are among those of a larger one.
    """
    order = np.random.default_rng(seed).permutation(count)
    return sorted(order[:limit].tolist())


def drawn(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """At most ``limit`` rows, drawn by seed 0, in their order; all where there is no limit."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    return [rows[index] for index in chosen(len(rows), limit, 0)]
