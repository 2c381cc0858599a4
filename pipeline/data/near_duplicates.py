"""Rows that say nearly the same: Jaccard similarity over 5-grams of characters.

Every pair that is given was verified: its Jaccard similarity is computed from the two whole sets
of shingles (48-bit hashes of them). Between texts of at most ``similarity_join.MOST_SHINGLES``
shingles no pair is missed; of pairs with a longer text, fewer than 1 in 100 at the threshold
itself, and fewer above it.

What could grow with the square of the rows is cut, and only pairs that change nothing are left
out: the copies of one text beyond the first COPIES stand in pairs with first copies only; and
where texts are so crowded that looking at all candidates would take too long, a row that is a
near duplicate of an earlier kept row may be missing from other pairs. In any case ``keep_first``
keeps the same rows as it would with all pairs (of those that are found, see above).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import DataError
from pipeline.data.shingles import (
    KEY_BITS,
    ShingleSets,
    Texts,
    first_of_same,
    multipliers,
    shingle_sets,
)
from pipeline.data.similarity_join import (
    JoinIndex,
    between,
    candidate_count,
    index_block,
    join_index,
    rarity_levels,
    within,
)
from pipeline.data.spans import Indices, Keys, RowPairs, expand, ordered, pieces

COPIES = 8
# Texts from which the rarity of shingles is told.
SAMPLE = 1 << 12
# Above these many candidates, texts are taken in halves.
CROWDED = 1 << 21
CROWDED_PER_TEXT = 200
# Shingles held at once for verification (8 bytes each), and sorted at once.
HELD_SHINGLES = 1 << 24
SORTED_SHINGLES = 1 << 20
_PAIRS_AT_ONCE = 1 << (64 - KEY_BITS)

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Pairs:
    """M near duplicates, ascending by left, then right.

    Attributes:
        left: int64[M]; the earlier row.
        right: int64[M]; the later row.
        jaccard: float32[M]; similarity of their sets of shingles, 0 to 1.
    """

    left: Indices
    right: Indices
    jaccard: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.left)


def near_duplicate_pairs(
    texts: Sequence[str] | Any, *, threshold: float = 0.8, seed: int = 0, workers: int = 1
) -> Pairs:
    """Finds the pairs of texts whose Jaccard similarity is at least ``threshold``.

    Args:
        texts: A sequence of str, or a pyarrow Array or ChunkedArray of strings (read in blocks,
            memory-mapped or not). A text without a word character is in no pair.
        threshold: Above 0, at most 1. Below about 0.5 most texts share a shingle with too many
            others, and the work grows with it.
        seed: Of the hashes.
        workers: Threads; the result does not depend on them.

    Raises:
        DataError: A threshold that is out of bounds.
    """
    if not 0 < threshold <= 1:
        raise DataError(f"near duplicates: threshold is {threshold}; give one above 0, at most 1")
    column = Texts(texts)
    if len(column) == 0:
        return _joined([])
    odd = multipliers(seed)
    rows = np.arange(len(column))
    stride = -(-len(column) // SAMPLE)
    levels = rarity_levels(shingle_sets(block, odd) for block in column.blocks(rows[::stride]))
    indexed = partial(index_block, odd=odd, levels=levels, threshold=threshold)
    index, fingerprints = join_index(in_order(indexed, column.blocks(rows), workers), threshold)
    first = first_of_same(fingerprints)
    # Nothing is said where there is no shingle.
    said = index.sizes > 0
    distinct = np.flatnonzero(said & (first == rows))
    verify = partial(
        _verified,
        column=column,
        odd=odd,
        sizes=index.sizes,
        workers=workers,
        threshold=threshold,
    )
    found = list(_solved(index.of(distinct), distinct, verify))
    return _with_copies(_joined(found), first, said)


def keep_first(n: int, pairs: Pairs) -> npt.NDArray[np.bool_]:
    """bool[n]: a row goes if it is a near duplicate of an earlier row that is kept."""
    kept = np.ones(n, np.bool_)
    edges = np.flatnonzero(np.diff(pairs.left, prepend=-1, append=-1))
    # Ascending: whether a row is kept is settled before it is asked for as the left one.
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if kept[pairs.left[start]]:
            kept[pairs.right[start:stop]] = False
    return kept


def label_conflicts(pairs: Pairs, labels: Sequence[Any]) -> list[tuple[int, int, float]]:
    """The pairs whose rows carry different labels: (earlier row, later row, jaccard)."""
    triples = zip(pairs.left.tolist(), pairs.right.tolist(), pairs.jaccard.tolist(), strict=True)
    return [triple for triple in triples if labels[triple[0]] != labels[triple[1]]]


def in_order(function: Callable[[In], Out], items: Iterable[In], workers: int) -> Iterator[Out]:
    """The function's results in the order of the items, few of them under way at a time."""
    if workers <= 1:
        yield from map(function, items)
        return
    waiting = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        while group := list(islice(waiting, 2 * workers)):
            yield from pool.map(function, group)


def _solved(
    index: JoinIndex, rows: Indices, verify: Callable[[RowPairs], Pairs]
) -> Iterator[Pairs]:
    """Near duplicates among distinct texts.

    Where they are too crowded: the first half by itself, then only those of it that are kept
    against the second half, then what is left of that by itself. A dense cloud of near
    duplicates thus shrinks to its first member before it could grow.
    """
    if len(rows) < 2:
        return
    crowded = CROWDED + CROWDED_PER_TEXT * len(rows)
    if len(rows) == 2 or candidate_count(index) <= crowded:
        yield verify(ordered(within(index)))
        return
    early, late = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    found = list(_solved(index.of(early), early, verify))
    yield from found
    kept = early[keep_first(len(index.sizes), _joined(found))[early]]
    across = verify(ordered(between(index.of(kept), index.of(late))))
    yield across
    left = late[~np.isin(late, across.right)]
    yield from _solved(index.of(left), left, verify)


def _verified(
    candidates: RowPairs,
    *,
    column: Texts,
    odd: Keys,
    sizes: npt.NDArray[np.int32],
    workers: int,
    threshold: float,
) -> Pairs:
    """Those of the candidates that reach the threshold, their shingles made anew."""
    left, right = candidates
    found: list[npt.NDArray[np.float64]] = []
    weight = sizes[left].astype(np.int64) + sizes[right]
    for batch in pieces(weight, HELD_SHINGLES):
        asked = np.zeros(len(sizes), np.bool_)
        asked[left[batch]] = asked[right[batch]] = True
        rows = np.flatnonzero(asked)
        shingled = in_order(partial(shingle_sets, odd=odd), column.blocks(rows), workers)
        sets = _chained(list(shingled))
        compared = partial(
            _similarity,
            sets=sets,
            left=np.searchsorted(rows, left[batch]),
            right=np.searchsorted(rows, right[batch]),
        )
        parts = pieces(weight[batch], SORTED_SHINGLES)
        found.extend(in_order(compared, _at_most(parts, _PAIRS_AT_ONCE), workers))
    jaccard = np.concatenate(found) if found else np.zeros(0)
    near = jaccard >= threshold
    return _pairs(left[near], right[near], jaccard[near])


def _similarity(
    part: slice, *, sets: ShingleSets, left: Indices, right: Indices
) -> npt.NDArray[np.float64]:
    """Exact Jaccard similarity of at most 4,096 pairs: one sort, then equal neighbours."""
    keys = []
    for side in (left[part], right[part]):
        pair, at = expand(sets.starts[side], sets.starts[side + 1])
        keys.append(sets.keys[at] | (pair.astype(np.uint64) << np.uint64(KEY_BITS)))
    together = np.concatenate(keys)
    together.sort()
    same = together[:-1][together[1:] == together[:-1]] >> np.uint64(KEY_BITS)
    shared = np.bincount(same.astype(np.intp), minlength=part.stop - part.start)
    sizes = sets.sizes
    return shared / (sizes[left[part]] + sizes[right[part]] - shared)


def _at_most(parts: Iterable[slice], most: int) -> Iterator[slice]:
    for part in parts:
        for start in range(part.start, part.stop, most):
            yield slice(start, min(start + most, part.stop))


def _chained(blocks: list[ShingleSets]) -> ShingleSets:
    keys = np.concatenate([block.keys for block in blocks])
    sizes = np.concatenate([block.sizes for block in blocks])
    return ShingleSets(keys, np.concatenate(([0], np.cumsum(sizes))))


def _with_copies(pairs: Pairs, first: Indices, said: npt.NDArray[np.bool_]) -> Pairs:
    """From pairs of first copies to pairs of rows, COPIES of each text in full."""
    rows = np.flatnonzero(said)
    members = rows[np.argsort(first[rows], kind="stable")]
    everyone = np.arange(len(first))
    start = np.searchsorted(first[members], everyone, side="left")
    stop = np.searchsorted(first[members], everyone, side="right")
    groups = np.flatnonzero(stop - start > 1)
    left, right = (np.concatenate((side, groups)) for side in (pairs.left, pairs.right))
    jaccard = np.concatenate((pairs.jaccard, np.ones(len(groups), np.float32)))
    found = list(_products(members, start, stop, left, right))
    a, b, pair = (np.concatenate([part[place] for part in found]) for place in range(3))
    return _pairs(a, b, jaccard[pair])


def _products(
    members: Indices, start: Indices, stop: Indices, left: Indices, right: Indices
) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Rows a and b and the number of the pair of texts they come from.

    The copies of text t are members[start[t] : stop[t]]; a text paired with itself gives the
    pairs among its copies.
    """
    itself = left == right
    for copy in range(COPIES):
        pair = np.flatnonzero(stop[left] - start[left] > copy)
        mine, theirs = left[pair], right[pair]
        low = start[theirs] + np.where(itself[pair], copy + 1, 0)
        high = stop[theirs] if copy == 0 else np.minimum(stop[theirs], start[theirs] + COPIES)
        which, at = expand(low, np.maximum(low, high))
        yield members[start[mine] + copy][which], members[at], pair[which]
    pair = np.flatnonzero(~itself & (stop[left] - start[left] > COPIES))
    which, at = expand(start[left[pair]] + COPIES, stop[left[pair]])
    yield members[at], members[start[right[pair]]][which], pair[which]


def _joined(found: list[Pairs]) -> Pairs:
    empty = _pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return _pairs(
        np.concatenate([pairs.left for pairs in (empty, *found)]),
        np.concatenate([pairs.right for pairs in (empty, *found)]),
        np.concatenate([pairs.jaccard for pairs in (empty, *found)]),
    )


def _pairs(left: Indices, right: Indices, jaccard: npt.NDArray[Any]) -> Pairs:
    low, high = np.minimum(left, right), np.maximum(left, right)
    order = np.lexsort((high, low))
    return Pairs(low[order], high[order], jaccard[order].astype(np.float32))
