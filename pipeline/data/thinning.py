"""Fewer rows, or wrong labels, on purpose: the points of a learning curve.

Both are decided over rows that every other step of `prepare` has kept, and before any of them is
rendered, so that whatever learns from a row reads the label that it is to believe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.data.selection import Verdicts, seeded_share
from pipeline.data.shelf import NO_LABEL, Shelf

Array = np.ndarray[Any, Any]
# Which rows are kept and which labels are flipped must not hang together.
_FLIPS = 1


def thin(
    shelf: Shelf, verdicts: Verdicts, settings: Mapping[str, Any], made: int = -1
) -> dict[str, Any]:
    """Keeps a share of the training rows.

    The same share of every class, as far as whole rows go, and at least one row of each. Of one
    seed a larger share holds the rows of every smaller one.

    Args:
        settings: ``share`` of the rows, ``seed``.
        made: the source whose rows a model made from the others, or -1: they go with those.

    Returns:
        What was kept, counted.

    Raises:
        DataError: rows without one label each.
    """
    live = verdicts.live
    real = live[shelf.source[live] != made]
    label = shelf.label[real]
    if not len(real) or (label == NO_LABEL).any():
        raise DataError(
            "data.train: evaluate.learning_curve thins rows by their label, and "
            f"{int((label == NO_LABEL).sum())} of {len(real)} have none; give rows of format "
            "classification, or leave the learning curve out"
        )
    kept = seeded_share(label, float(settings["share"]), int(settings["seed"]))
    verdicts.drop(real[~kept], "sampled out")
    sizes = np.unique(label[kept], return_counts=True)[1]
    return {
        "rows": int(kept.sum()),
        "of": len(real),
        "classes": len(sizes),
        "smallest_class": int(sizes.min()),
    }


def flip(shelf: Shelf, verdicts: Verdicts, settings: Mapping[str, Any]) -> int:
    """Gives a share of the training rows of each class another label; how many rows it was.

    The new label is one of the others, each as likely. Of one seed more flips hold the fewer.

    Args:
        settings: ``flipped``, a share of the rows, and ``seed``.

    Raises:
        DataError: there is no other label.
    """
    live, flipped = verdicts.live, float(settings["flipped"])
    # By their names: codes follow the order in which labels were met, which says nothing.
    order = sorted(np.unique(shelf.label[live]).tolist(), key=lambda code: shelf.labels[code])
    if flipped and len(order) < 2:
        raise DataError(
            "data.train: evaluate.learning_curve.flipped needs another label to flip to, and all "
            "rows have the same; leave flipped out"
        )
    before = shelf.label.copy()
    for place, code in enumerate(order if flipped else ()):
        rows = live[before[live] == code]
        rng = np.random.default_rng([int(settings["seed"]), _FLIPS, place])
        # Drawn for every row, so that another share gives the rows of both the same label.
        rows, steps = rng.permutation(rows), rng.integers(1, len(order), size=len(rows))
        for row, step in list(zip(rows, steps, strict=True))[: round(flipped * len(rows))]:
            shelf.label[row] = order[(place + int(step)) % len(order)]
            verdicts.relabelled[int(row)] = shelf.labels[shelf.label[row]]
    return len(verdicts.relabelled)
