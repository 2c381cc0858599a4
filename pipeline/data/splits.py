"""Validation carved from train: whole groups, every label on both sides, seeded."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

from pipeline.core.errors import DataError
from pipeline.data.contamination import normalised, row_text
from pipeline.data.rows import Row


def carve_validation(
    rows: list[Row], share: float, by: str | None, seed: int, *, least: int = 0
) -> tuple[list[Row], list[Row]]:
    """Splits rows into train and validation.

    Args:
        share: of rows, per label where rows have one.
        by: rows with the same value of this column stay together; without it, rows that are
            equal after normalisation do.
        least: rows of each label to hold out where the share comes to fewer.

    Returns:
        (train, validation), both in the order of ``rows``.

    Raises:
        DataError: a column that rows do not have, or too few groups to split.
    """
    lacking = next((row for row in rows if by is not None and by not in row), None)
    if lacking is not None:
        raise DataError(
            f"data.validation.by: row {lacking['id']} has no column {by!r} "
            f"(found {', '.join(sorted(lacking))}); name a column that every row has"
        )
    members: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        members[str(row[by]) if by is not None else normalised(row_text(row))].append(index)
    labels = {
        group: {str(rows[index].get("label", "")) for index in indices}
        for group, indices in members.items()
    }
    # Groups that a label has left in train: the last one stays, or the label would be unseen.
    left = Counter(label for inner in labels.values() for label in inner)
    by_label: dict[str, list[str]] = defaultdict(list)
    for group, indices in members.items():
        by_label[str(rows[indices[0]].get("label", ""))].append(group)
    held: set[int] = set()
    for position, label in enumerate(sorted(by_label)):
        groups = sorted(by_label[label])
        random.Random(seed * 1_000_003 + position).shuffle(groups)
        wanted = max(share * sum(len(members[group]) for group in groups) - 0.5, least)
        taken = 0
        for group in groups:
            if taken >= wanted:
                break
            if any(left[inner] < 2 for inner in labels[group]):
                continue
            left.subtract(labels[group])
            held.update(members[group])
            taken += len(members[group])
    if not held:
        raise DataError(
            f"data.validation.carve: {share} of {len(rows)} rows leaves nothing to validate on; "
            "give data.validation a source of its own or carve more"
        )
    train = [row for index, row in enumerate(rows) if index not in held]
    return train, [rows[index] for index in sorted(held)]
