"""How evenly rows are spread over classes, and what can be done about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import median
from typing import Literal

import numpy as np
import numpy.typing as npt

Action = Literal["report", "cap", "weights"]


@dataclass(frozen=True, slots=True)
class Balance:
    """What balance found and did.

    Attributes:
        counts: Rows by label, most rows first, then by name; before any cap.
        imbalance_ratio: Rows of the largest class over rows of the smallest; 1 is even.
        effective_number: Classes of equal size that would be as uncertain: exp of the entropy
            of the shares (Hill 1973, order 1). 0 where there is no row.
        keep: bool[N]; False only for rows that a cap takes out.
        max_per_class: The cap, where there is one.
        weights: Weight by label, mean 1 over the rows; empty unless asked for.
    """

    counts: dict[str, int]
    imbalance_ratio: float
    effective_number: float
    keep: npt.NDArray[np.bool_]
    max_per_class: int | None
    weights: dict[str, float]


def balance(
    labels: Sequence[str],
    *,
    action: Action = "report",
    max_per_class: int | None = None,
    seed: int = 0,
) -> Balance:
    """Counts classes; caps the large ones or weighs them all where asked.

    Args:
        labels: N labels, one for each row.
        action: ``cap`` keeps at most max_per_class seeded rows of a class, in their order;
            ``weights`` gives each class the inverse of its share.
        max_per_class: Default: the median size of a class, rounded down.
        seed: Which rows a cap keeps. What it keeps of one class does not depend on the others.
    """
    ordered = sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0]))
    counts = dict(ordered)
    sizes = list(counts.values())
    keep = np.ones(len(labels), np.bool_)
    cap = None
    if action == "cap" and sizes:
        cap = max_per_class if max_per_class is not None else int(median(sizes))
        keep = _capped(labels, cap, seed)
    weights = {}
    if action == "weights":
        weights = {name: len(labels) / (len(counts) * size) for name, size in counts.items()}
    return Balance(
        counts=counts,
        imbalance_ratio=max(sizes) / min(sizes) if sizes else 1.0,
        effective_number=_effective_number(sizes),
        keep=keep,
        max_per_class=cap,
        weights=weights,
    )


def _capped(labels: Sequence[str], cap: int, seed: int) -> npt.NDArray[np.bool_]:
    rows_of: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows_of.setdefault(label, []).append(row)
    keep = np.zeros(len(labels), np.bool_)
    for label, rows in rows_of.items():
        if len(rows) > cap:
            digest = sha256(label.encode("utf-8", "surrogatepass")).digest()
            rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
            keep[rng.permutation(rows)[:cap]] = True
        else:
            keep[rows] = True
    return keep


def _effective_number(sizes: Sequence[int]) -> float:
    total = sum(sizes)
    return math.exp(-sum(size / total * math.log(size / total) for size in sizes)) if total else 0.0
