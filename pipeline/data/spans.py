"""Pairs of numbers as arrays: made from ranges, in bounded pieces, each once and in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
RowPairs = tuple[Indices, Indices]
WAITING = 1 << 22
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def expand(start: Indices, stop: Indices) -> RowPairs:
    """Each i with every j of start[i] <= j < stop[i]."""
    counts = stop - start
    which = np.repeat(np.arange(len(counts)), counts)
    ahead = np.cumsum(counts) - counts
    return which, np.arange(len(which)) - ahead[which] + start[which]


def pieces(counts: Indices, most: int) -> Iterator[slice]:
    """Cuts a range into pieces whose counts add up to at most ``most``, or that are one long."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, done + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def ordered(pairs: Iterable[RowPairs]) -> RowPairs:
    """Each unordered pair once, the lower row (below 2 ** 32) on the left, ascending."""
    kept = np.zeros(0, np.uint64)
    waiting: list[Keys] = []
    count = 0
    for left, right in pairs:
        waiting.append(_packed(left, right))
        count += len(left)
        # Now and then, so that pairs found many times do not pile up.
        if count > WAITING + len(kept):
            kept, waiting, count = distinct(np.concatenate([kept, *waiting])), [], 0
    keys = distinct(np.concatenate([kept, *waiting]))
    return (keys >> _SHIFT).astype(np.int64), (keys & _LOW).astype(np.int64)


def distinct(keys: Keys) -> Keys:
    """Each number once, ascending; sorts ``keys`` where it lies.

    np.unique hashes since NumPy 2.3, which is many times slower on mostly different numbers.
    """
    keys.sort()
    new = np.ones(len(keys), np.bool_)
    new[1:] = keys[1:] != keys[:-1]
    return keys[new]


def _packed(left: Indices, right: Indices) -> Keys:
    low, high = np.minimum(left, right), np.maximum(left, right)
    return (low.astype(np.uint64) << _SHIFT) | high.astype(np.uint64)
