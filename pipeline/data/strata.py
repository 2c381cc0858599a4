"""Rows with several labels: the one label by which a share of them is taken, and all of them."""

from __future__ import annotations

from collections import Counter
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
    """By each row's rarest label: combinations are many, and most of them stand once.

    Returns:
        [R] code of the row's rarest label (of equals the first by name), or NO_LABEL; and the
        codes of all its labels. Codes follow the labels' names.
    """
    counts = single_labels(shelf, rows)
    code_of = {label: code for code, label in enumerate(sorted(counts))}
    sets: dict[int, frozenset[int]] = {NO_LABEL: frozenset()}
    home = {NO_LABEL: NO_LABEL}
    for combined in np.unique(shelf.label[rows]).tolist():
        if combined != NO_LABEL:
            labels = labels_in(shelf.labels[combined])
            sets[combined] = frozenset(code_of[label] for label in labels)
            rarest = min(labels, key=lambda label: (counts[label], label), default=None)
            home[combined] = NO_LABEL if rarest is None else code_of[rarest]
    given = shelf.label[rows].tolist()
    return np.array([home[code] for code in given], np.int32), [sets[code] for code in given]
