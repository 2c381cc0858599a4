"""Rows with several labels: the one label by which a share of them is taken, and all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.data.gathering import labels_in
from pipeline.data.shelf import NO_LABEL, Shelf

Array = np.ndarray[Any, Any]


def single_labels(shelf: Shelf, rows: Array) -> Counter[str]:
    """How many of these rows have each label."""
    codes, counts = np.unique(shelf.label[rows], return_counts=True)
    found: Counter[str] = Counter()
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        if code != NO_LABEL:
            found.update(dict.fromkeys(labels_in(shelf.labels[code]), count))
    return found


def strata(shelf: Shelf, rows: Array) -> tuple[Array, list[frozenset[int]]]:
    """``by_rarest`` of these rows."""
    combined, place = np.unique(shelf.label[rows], return_inverse=True)
    given = [labels_in(shelf.labels[c]) if c != NO_LABEL else [] for c in combined.tolist()]
    home, sets = by_rarest(given, single_labels(shelf, rows))
    return home[place], [sets[index] for index in place.tolist()]


def by_rarest(
    labels: Sequence[Sequence[str]], counts: Mapping[str, int]
) -> tuple[Array, list[frozenset[int]]]:
    """By each row's rarest label: combinations are many, and most of them stand once.

    Args:
        labels: of each row.
        counts: rows with each label.

    Returns:
        [R] code of the row's rarest label (of equals the first by name), or NO_LABEL; and the
        codes of all its labels. Codes follow the labels' names.
    """
    code_of = {label: code for code, label in enumerate(sorted(counts))}
    rarest = (min(row, key=lambda label: (counts[label], label), default=None) for row in labels)
    home = [NO_LABEL if label is None else code_of[label] for label in rarest]
    return np.array(home, np.int32), [frozenset(code_of[one] for one in row) for row in labels]
