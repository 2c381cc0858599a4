"""Rows held out of train: whole groups, every label on both sides, or the latest by time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from pipeline.core.errors import DataError

Array = np.ndarray[Any, Any]


def hold_out(
    where: str,
    share: float,
    *,
    label: Array,
    group: Array,
    time: Array | None,
    seed: int,
    least: int = 0,
    sets: Sequence[Set[int]] | None = None,
) -> Array:
    """Chooses the rows of a held-out split.

    Args:
        where: named in errors, e.g. ``data.validation``.
        share: of rows, per label where rows have one.
        label: [N] label codes; -1 where a row has none.
        group: [N] rows of one group stay together.
        time: [N] seconds: the latest rows are held out, all of one moment together; groups are
            not looked at then. None: by group.
        least: rows of each label to hold out where the share comes to fewer.
        sets: [N] all labels of each row, where it has several; ``label`` is the one by which
            the share is taken. None of them is held out whole.

    Returns:
        [N] bool, True where the row is held out.

    Raises:
        DataError: the share leaves one side without rows.
    """
    if time is not None:
        held = _latest(time, share)
    else:
        held = _groups(label, group, share, seed, least, sets)
    if not held.any() or held.all():
        side = "train on" if held.all() else "hold out"
        raise DataError(
            f"{where}.carve: {share} of {len(label)} rows leaves nothing to {side}; "
            f"give {where} a source of its own or carve another share"
        )
    return held


def _latest(time: Array, share: float) -> Array:
    if not len(time):
        return np.zeros(0, bool)
    wanted = max(1, round(share * len(time)))
    cut = np.sort(time)[len(time) - wanted]
    return np.asarray(time >= cut)


def _groups(
    label: Array,
    group: Array,
    share: float,
    seed: int,
    least: int,
    sets: Sequence[Set[int]] | None,
) -> Array:
    """Groups in a seeded order, label by label, until the label's share is reached."""
    _, first, code, size = np.unique(
        group, return_index=True, return_inverse=True, return_counts=True
    )
    home = label[first]
    mixed = _labels_of_mixed(label, code, home) if sets is None else _labels_of_sets(sets, code)
    # Groups that a label has left in train: the last one stays, or the label would be unseen.
    left = Counter(dict(zip(*map(list, np.unique(home, return_counts=True)), strict=True)))
    for number, inner in mixed.items():
        left.update(inner - {home[number]})
    held = np.zeros(len(size), bool)
    for position, value in enumerate(np.unique(home)):
        members = np.flatnonzero(home == value)
        # By first appearance, not by hash: the seed alone decides the order.
        members = members[np.argsort(first[members], kind="stable")]
        np.random.default_rng([seed, position]).shuffle(members)
        wanted = max(share * int(size[members].sum()) - 0.5, least)
        taken = 0
        for number in members.tolist():
            if taken >= wanted:
                break
            labels = mixed.get(number) or {value}
            if any(left[inner] < 2 for inner in labels):
                continue
            left.subtract(labels)
            held[number] = True
            taken += int(size[number])
    return np.asarray(held[code])


def _labels_of_sets(sets: Sequence[Set[int]], code: Array) -> dict[int, set[Any]]:
    """Every group that has labels: group number to all labels of its rows."""
    found: dict[int, set[Any]] = defaultdict(set)
    for number, labels in zip(code.tolist(), sets, strict=True):
        if labels:
            found[number] |= labels
    return found


def _labels_of_mixed(label: Array, code: Array, home: Array) -> dict[int, set[Any]]:
    """Groups whose rows carry several labels (few): group number to its labels."""
    other = np.flatnonzero(label != home[code])
    found: dict[int, set[Any]] = defaultdict(set)
    for index in other:
        number = int(code[index])
        found[number] |= {home[number], label[index]}
    return found
