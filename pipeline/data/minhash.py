"""Which long texts may be near copies: one-permutation MinHash in bands.

A long text has too many shingles to index its rarest fifth, so it is known by SIGNATURE
numbers, each the least hash among the shingles that fall into one bin (Li, Owen, Zhang 2012,
"One Permutation Hashing"). Texts that agree on all numbers of a band are candidates.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipeline.data.shingles import ShingleSets, hash_of, mixed
from pipeline.data.spans import Indices, Keys

SIGNATURE = 128
# What a pair at the threshold itself may be missed by.
MISSED = 0.005
# Four standard deviations of an estimate from SIGNATURE bins at Jaccard 0.5 to 0.8.
SLACK = 0.16

Signatures = npt.NDArray[np.uint32]


def signatures(sets: ShingleSets, rows: Indices) -> Signatures:
    """uint32[len(rows), SIGNATURE]: least hash by bin; an empty bin holds the largest number."""
    found = np.full((len(rows), SIGNATURE), np.iinfo(np.uint32).max, np.uint32)
    for place, row in enumerate(rows.tolist()):
        hashes = hash_of(sets.keys[sets.starts[row] : sets.starts[row + 1]])
        bins = (hashes & np.uint64(SIGNATURE - 1)).astype(np.intp)
        values = (hashes >> np.uint64(SIGNATURE.bit_length())).astype(np.uint32)
        np.minimum.at(found[place], bins, values)
    return found


def band_rows(threshold: float) -> int:
    """Numbers in a band: as many as leave MISSED of the pairs at the threshold unseen."""
    fitting = [
        rows
        for rows in range(1, SIGNATURE // 8 + 1)
        if (1 - threshold**rows) ** (SIGNATURE // rows) <= MISSED
    ]
    return max(fitting, default=1)


def band_keys(table: Signatures, threshold: float) -> Iterator[Keys]:
    """uint64[N] for each band: equal where two signatures agree on the whole band."""
    rows = band_rows(threshold)
    for start in range(0, SIGNATURE - rows + 1, rows):
        keys = np.zeros(len(table), np.uint64)
        for place in range(start, start + rows):
            keys = mixed(keys + table[:, place])
        yield keys


def alike(left: Signatures, right: Signatures, threshold: float) -> npt.NDArray[np.bool_]:
    """bool[M]: whether the signatures' estimate lets the pair reach the threshold."""
    agree = (left == right).mean(axis=1)
    return np.asarray(agree >= threshold - SLACK)
