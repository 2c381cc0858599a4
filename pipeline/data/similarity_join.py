"""Which pairs of texts may reach a Jaccard similarity: an exact set-similarity join.

Every text of at most MOST_SHINGLES is indexed under its rarest shingles (the prefix filter of
Chaudhuri, Ganti, Kaushik 2006 and Bayardo, Ma, Srikant 2007), with the length and position
filters of PPJoin (Xiao and others 2008) and a bitmap filter (Sandes and others 2020). None of
them loses a pair. Longer texts go through ``minhash`` instead, and may lose a few in a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.data.minhash import Signatures, alike, band_keys, signatures
from pipeline.data.shingles import (
    HASH_BITS,
    LEVEL_TABLE_BITS,
    ShingleSets,
    hash_of,
    mixed,
    shingle_sets,
)
from pipeline.data.spans import Indices, Keys, RowPairs, expand, ordered, pieces

MOST_SHINGLES = 256
# Candidates looked at together: bounds memory.
AT_ONCE = 1 << 21
_SIZE_BITS = 12
_MOST_SIZE = (1 << _SIZE_BITS) - 1
_BITMAP_WORDS = 4
# Bounds are widened by this much: rounding must never lose a pair.
_ROUNDING = 1e-6

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Postings:
    """Under which shingles texts are indexed, E entries, ascending by key.

    Attributes:
        keys: uint64[E]; shingle (52 bits) above the text's number of shingles (12 bits).
        rows: int32[E]; the text.
        places: uint16[E]; how many rarer shingles the text has.
    """

    keys: Keys
    rows: npt.NDArray[np.int32]
    places: npt.NDArray[np.uint16]

    def select(self, chosen: Bools | Indices) -> Postings:
        """The entries at ``chosen``."""
        return Postings(self.keys[chosen], self.rows[chosen], self.places[chosen])

    @property
    def sizes(self) -> Floats:
        """float64[E]: number of shingles of the entry's text."""
        return (self.keys & np.uint64(_MOST_SIZE)).astype(np.float64)

    @property
    def shingles(self) -> Keys:
        """uint64[E]: the key without the number."""
        return self.keys & ~np.uint64(_MOST_SIZE)


@dataclass(frozen=True, slots=True)
class BlockIndex:
    """What is kept of a block of R texts; ``postings`` and ``long_rows`` count from its start."""

    postings: Postings
    sizes: npt.NDArray[np.int32]
    bitmaps: Keys
    fingerprints: Keys
    long_rows: Indices
    signatures: Signatures


@dataclass(frozen=True, slots=True)
class JoinIndex:
    """Everything that is kept of N texts to find candidates, the texts themselves apart.

    Attributes:
        threshold: Jaccard similarity that counts.
        postings: Entries of the texts of at most MOST_SHINGLES.
        sizes: int32[N]; distinct shingles.
        bitmaps: uint64[N, 4]; one bit for each shingle, by its hash.
        long_rows: int64[L], ascending; texts that may have a near copy above MOST_SHINGLES.
        signatures: uint32[L, SIGNATURE] of them.
    """

    threshold: float
    postings: Postings
    sizes: npt.NDArray[np.int32]
    bitmaps: Keys
    long_rows: Indices
    signatures: Signatures

    def of(self, rows: Indices) -> JoinIndex:
        """The part that concerns ``rows``."""
        member = np.zeros(len(self.sizes), np.bool_)
        member[rows] = True
        kept = member[self.long_rows]
        return replace(
            self,
            postings=self.postings.select(member[self.postings.rows]),
            long_rows=self.long_rows[kept],
            signatures=self.signatures[kept],
        )


def rarity_levels(sets: Iterable[ShingleSets]) -> Keys:
    """From some texts, how common shingles are: log2 of their count, by hash, 0 to 15.

    Only the order in which shingles are indexed depends on it, never a result.
    """
    counts = np.zeros(1 << LEVEL_TABLE_BITS, np.int64)
    for block in sets:
        at = hash_of(block.keys) >> np.uint64(HASH_BITS - LEVEL_TABLE_BITS)
        counts += np.bincount(at.astype(np.intp), minlength=len(counts))
    return np.minimum(np.ceil(np.log2(counts + 1)), 15).astype(np.uint64)


def index_block(texts: list[str], odd: Keys, levels: Keys, threshold: float) -> BlockIndex:
    """Shingles a block of texts (at most ``shingles.BLOCK_ROWS``) and keeps what the join needs."""
    sets = shingle_sets(texts, odd, levels)
    sizes = sets.sizes
    rows = np.repeat(np.arange(len(sizes)), sizes)
    places = np.arange(len(rows)) - sets.starts[rows]
    # A text that shares none of these has too few left to share.
    prefix = sizes - np.ceil(threshold * sizes - _ROUNDING)
    taken = (places <= prefix[rows]) & (sizes[rows] <= MOST_SHINGLES)
    keys = (sets.keys[taken] << np.uint64(_SIZE_BITS)) | sizes[rows[taken]].astype(np.uint64)
    long_rows = np.flatnonzero(sizes >= threshold * MOST_SHINGLES - 1)
    return BlockIndex(
        Postings(keys, rows[taken].astype(np.int32), places[taken].astype(np.uint16)),
        sizes.astype(np.int32),
        _bitmaps(sets),
        _fingerprints(sets),
        long_rows,
        signatures(sets, long_rows),
    )


def join_index(blocks: Iterator[BlockIndex], threshold: float) -> tuple[JoinIndex, Keys]:
    """One index from those of the blocks, and fingerprints uint64[N, 2] of the sets of shingles."""
    kept = list(blocks)
    offsets = np.cumsum([0, *(len(block.sizes) for block in kept)])
    rows = [
        block.postings.rows + np.int32(offset)
        for block, offset in zip(kept, offsets[:-1], strict=True)
    ]
    long_rows = [block.long_rows + offset for block, offset in zip(kept, offsets[:-1], strict=True)]
    keys = np.concatenate([block.postings.keys for block in kept])
    places = np.concatenate([block.postings.places for block in kept])
    index = JoinIndex(
        threshold,
        _sorted(Postings(keys, np.concatenate(rows), places)),
        np.concatenate([block.sizes for block in kept]),
        np.concatenate([block.bitmaps for block in kept]),
        np.concatenate(long_rows),
        np.concatenate([block.signatures for block in kept]),
    )
    return index, np.concatenate([block.fingerprints for block in kept])


def within(index: JoinIndex) -> Iterator[RowPairs]:
    """Candidates among the texts of an index, left < right; one may come more than once."""
    span = _spans(index.postings, index.postings, index.threshold, itself=True)
    yield from _short_candidates(index, index.postings, index.postings, span)
    yield from _long_candidates(index, index)


def between(index: JoinIndex, others: JoinIndex) -> Iterator[RowPairs]:
    """Candidates of a text of ``index`` and one of ``others``; they share no text."""
    span = _spans(others.postings, index.postings, index.threshold, itself=False)
    yield from _short_candidates(index, others.postings, index.postings, span)
    yield from _long_candidates(index, others)


def candidate_count(index: JoinIndex) -> int:
    """How many pairs ``within`` looks at before the filters."""
    start, stop = _spans(index.postings, index.postings, index.threshold, itself=True)
    found = int((stop - start).sum())
    for keys in band_keys(index.signatures, index.threshold):
        ordered_keys = np.sort(keys)
        edges = np.flatnonzero(ordered_keys[1:] != ordered_keys[:-1]) + 1
        sizes = np.diff(edges, prepend=0, append=len(keys))
        found += int((sizes * (sizes - 1) // 2).sum())
    return found


def _spans(
    asking: Postings, asked: Postings, threshold: float, *, itself: bool
) -> tuple[Indices, Indices]:
    """Which entries of ``asked`` (from, to) each entry of ``asking`` may pair with.

    The first shingle that two texts share stands at ``place`` in one of them: it has no more
    than size - place shingles to share, so the other's size is bounded.
    """
    size = asking.sizes
    left = size - asking.places
    most = np.minimum(size / threshold, left * (1 + threshold) / threshold - size)
    upper = np.clip(np.floor(most + _ROUNDING), 0, _MOST_SIZE).astype(np.uint64)
    stop = np.searchsorted(asked.keys, asking.shingles | upper, side="right")
    if itself:
        start = np.arange(1, len(asking.keys) + 1)
    else:
        least = np.ceil(threshold * size - _ROUNDING).astype(np.uint64)
        start = np.searchsorted(asked.keys, asking.shingles | least, side="left")
    return start, np.maximum(start, stop)


def _short_candidates(
    index: JoinIndex, asking: Postings, asked: Postings, span: tuple[Indices, Indices]
) -> Iterator[RowPairs]:
    start, stop = span
    busy = np.flatnonzero(stop > start)
    start, stop = start[busy], stop[busy]
    for piece in pieces(stop - start, AT_ONCE):
        which, other = expand(start[piece], stop[piece])
        left, right = asking.rows[busy[piece][which]], asked.rows[other]
        sizes = (index.sizes[left] + index.sizes[right]).astype(np.float64)
        least = np.ceil(sizes * index.threshold / (1 + index.threshold) - _ROUNDING)
        possible = index.sizes[right] - asked.places[other] >= least
        left, right, differ = left[possible], right[possible], (sizes - 2 * least)[possible]
        bits = np.bitwise_count(index.bitmaps[left] ^ index.bitmaps[right]).sum(axis=1)
        yield ordered([(left[bits <= differ], right[bits <= differ])])


def _long_candidates(index: JoinIndex, others: JoinIndex) -> Iterator[RowPairs]:
    itself = index is others
    theirs = band_keys(others.signatures, index.threshold)
    for keys, other_keys in zip(band_keys(index.signatures, index.threshold), theirs, strict=True):
        order = np.argsort(other_keys, kind="stable")
        ordered = other_keys[order]
        if itself:
            keys, start = ordered, np.arange(1, len(keys) + 1)
        else:
            start = np.searchsorted(ordered, keys, side="left")
        stop = np.searchsorted(ordered, keys, side="right")
        for piece in pieces(stop - start, AT_ONCE >> 4):
            which, other = expand(start[piece], stop[piece])
            mine = which + piece.start
            yield from _long_pairs(index, others, order[mine] if itself else mine, order[other])


def _long_pairs(
    index: JoinIndex, others: JoinIndex, mine: Indices, theirs: Indices
) -> Iterator[RowPairs]:
    """Those of one band's pairs that may count and that the prefix filter does not find."""
    left, right = index.long_rows[mine], others.long_rows[theirs]
    small = np.minimum(index.sizes[left], index.sizes[right])
    large = np.maximum(index.sizes[left], index.sizes[right])
    possible = (large > MOST_SHINGLES) & (small >= index.threshold * large - _ROUNDING)
    left, right, mine, theirs = (part[possible] for part in (left, right, mine, theirs))
    near = alike(index.signatures[mine], others.signatures[theirs], index.threshold)
    yield ordered([(left[near], right[near])])


def _sorted(postings: Postings) -> Postings:
    order = np.argsort(postings.keys, kind="stable")
    keys = postings.keys[order]
    shingles = keys >> np.uint64(_SIZE_BITS)
    # A shingle that one text alone is indexed under pairs nothing.
    shared = np.zeros(len(keys), np.bool_)
    shared[1:] = shingles[1:] == shingles[:-1]
    shared[:-1] |= shared[1:].copy()
    return Postings(keys[shared], postings.rows[order[shared]], postings.places[order[shared]])


def _bitmaps(sets: ShingleSets) -> Keys:
    found = np.zeros((len(sets.starts) - 1, _BITMAP_WORDS), np.uint64)
    bits = sets.keys & np.uint64(63)
    words = (sets.keys >> np.uint64(6)) & np.uint64(_BITMAP_WORDS - 1)
    filled = np.flatnonzero(np.diff(sets.starts))
    for word in range(_BITMAP_WORDS):
        masks = np.where(words == word, np.uint64(1) << bits, np.uint64(0))
        if len(filled):
            found[filled, word] = np.bitwise_or.reduceat(masks, sets.starts[filled])
    return found


def _fingerprints(sets: ShingleSets) -> Keys:
    """uint64[R, 2]: the same where two texts have the same set of shingles."""
    found = np.zeros((len(sets.starts) - 1, 2), np.uint64)
    filled = np.flatnonzero(np.diff(sets.starts))
    if len(filled):
        scattered = mixed(hash_of(sets.keys))
        found[filled, 0] = np.add.reduceat(scattered, sets.starts[filled])
        scattered *= scattered >> np.uint64(32)
        found[filled, 1] = np.add.reduceat(scattered, sets.starts[filled])
    return found
