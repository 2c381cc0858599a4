"""Packed rows: trained on as they are, or row by row where the model's layers would leak."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data.arrow import Split
from pipeline.data.rows import Row
from pipeline.modeling.packing_probe import ProbeResult


class Rows(Protocol):
    """A sequence of rows whose lengths are known without reading them."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, index: int, /) -> Row:
        """One row."""

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""


class Unpacked:
    """The rows of a split, each segment of a block by itself."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._lengths = split.segment_lengths()
        counts = split.segments()
        self._block = np.repeat(np.arange(len(split)), counts)
        # Where each row begins in its block: what all rows before it hold, less what the
        # blocks before its own hold.
        before = np.cumsum(self._lengths) - self._lengths
        self._start = before - np.repeat(np.cumsum(split.lengths()) - split.lengths(), counts)
        self._first = np.cumsum(counts) - counts
        self._counts = counts

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, index: int) -> Row:
        block = int(self._block[index])
        row = self._split[block]
        if not row["lengths"]:
            return row
        start = int(self._start[index])
        end = start + int(self._lengths[index])
        number = index - int(self._first[block])
        name = row["members"][number] if row["members"] else f"{row['example_id']}#{number}"
        return {
            **row,
            "example_id": name,
            "input_ids": row["input_ids"][start:end],
            "supervised": row["supervised"][start:end],
            "lengths": None,
            "members": None,
        }

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return self._lengths

    def block(self, number: int) -> range:
        """The rows of a block."""
        first = int(self._first[number])
        return range(first, first + int(self._counts[number]))

    def block_lengths(self) -> NDArray[np.int64]:
        """Tokens of each block."""
        return self._split.lengths()


def is_packed(split: Split) -> bool:
    """Whether any row of the split is a block of several."""
    return bool((split.segments() > 1).any())


def rows_for(
    splits: tuple[Split, Split], found: ProbeResult | None
) -> tuple[tuple[Rows, Rows], str | None]:
    """The splits as they can be trained on, and the fact about packing.

    Args:
        splits: train and validation.
        found: what the probe said; None where nothing is packed.
    """
    if found is None:
        return splits, None
    if found.ok:
        return splits, f"on, largest difference {found.largest_difference:.1e}"
    first, second = splits
    return (Unpacked(first), Unpacked(second)), f"off: {found.reason}"
