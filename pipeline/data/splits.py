"""Validation carved from train: whole groups, every label on both sides, seeded."""

from __future__ import annotations

import random
from collections import defaultdict

from pipeline.core.errors import DataError
from pipeline.data.contamination import normalised, row_text
from pipeline.data.rows import Row


def carve_validation(
    rows: list[Row], share: float, by: str | None, seed: int
) -> tuple[list[Row], list[Row]]:
    """Splits rows into train and validation.

    Args:
        share: of rows, per label where rows have one.
        by: rows with the same value of this column stay together; without it, rows that are
            equal after normalisation do.

    Returns:
        (train, validation), both in the order of ``rows``.

    Raises:
        DataError: a column that rows do not have, or too few groups to split.
    """
    if by is not None and rows and by not in rows[0]:
        raise DataError(f"data.validation.by: rows have no column {by!r}; found {sorted(rows[0])}")
    members: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        members[str(row[by]) if by is not None else normalised(row_text(row))].append(index)
    by_label: dict[str, list[str]] = defaultdict(list)
    for group, indices in members.items():
        by_label[str(rows[indices[0]].get("label", ""))].append(group)
    held: set[int] = set()
    for position, label in enumerate(sorted(by_label)):
        groups = sorted(by_label[label])
        random.Random(seed * 1_000_003 + position).shuffle(groups)
        wanted = share * sum(len(members[group]) for group in groups)
        taken = 0
        # The last group of a label stays in train: a label must not be unseen there.
        for group in groups[:-1]:
            if taken >= wanted - 0.5:
                break
            held.update(members[group])
            taken += len(members[group])
    if not held:
        raise DataError(
            f"data.validation.carve: {share} of {len(rows)} rows leaves nothing to validate on; "
            "give data.validation a source of its own or carve more"
        )
    train = [row for index, row in enumerate(rows) if index not in held]
    return train, [rows[index] for index in sorted(held)]
