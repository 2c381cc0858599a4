"""Which items share most of their grams with a text: an inverted list over the rarest of each.

Prefix filter (Chaudhuri et al. 2006; Bayardo et al. 2007; several matches asked of a longer
prefix: Wang et al. 2012): where two sets share t grams, the rarest (size - t + m) of each share
at least m. Only those are listed, so that what every item says (a shared passage, an
instruction) does not make everything a candidate of everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pipeline.data.contamination_text import Hashes, Ints, Mask

# Pairs looked at in one go: what bounds the memory where items are much alike.
_MOST_AT_ONCE = 4_000_000
NEAR, OF = 4, 5


@dataclass(frozen=True, slots=True)
class Pairs:
    """Texts beside items that may match, and how many grams they share.

    Attributes:
        text: [P].
        item: [P].
        shared: distinct grams of the item that are in the text, [P].
    """

    text: Ints
    item: Ints
    shared: Ints


@dataclass(frozen=True, slots=True)
class GramTable:
    """Distinct grams of all items.

    Attributes:
        slots: a filter: a gram whose slot (by its first bits) holds 0 is in no item.
        keys: distinct grams, sorted, [V].
        rank: place of each in the order of rarity, rarest first, [V].
        by_rank: the grams in that order, [V].
        starts: where each item's grams begin in ``grams``, [items + 1].
        grams: places in ``keys``, ascending for each item.
        list_starts: where each gram's list begins in ``listed``, [V + 1].
        listed: the items that have the gram among their rarest.
    """

    slots: npt.NDArray[np.uint8]
    keys: Hashes
    rank: npt.NDArray[np.uint32]
    by_rank: npt.NDArray[np.uint32]
    starts: Ints
    grams: npt.NDArray[np.uint32]
    list_starts: Ints
    listed: npt.NDArray[np.uint32]

    @classmethod
    def build(cls, hashes: Hashes, owner: Ints, items: int) -> GramTable:
        """Takes grams, repeated ones too, with the item of each, ascending."""
        keys, gram = np.unique(hashes, return_inverse=True)
        pair = np.unique(owner * max(len(keys), 1) + gram)
        item, gram = np.divmod(pair, max(len(keys), 1))
        often = np.bincount(gram, minlength=len(keys))
        rank = np.empty(len(keys), np.uint32)
        by_rank = np.argsort(often, kind="stable").astype(np.uint32)
        rank[by_rank] = np.arange(len(keys))
        sizes = np.bincount(item, minlength=items)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        rarest = np.lexsort((rank[gram], item))
        place = np.arange(len(item)) - np.repeat(starts[:-1], sizes)
        first = rarest[place < np.repeat(prefix(sizes), sizes)]
        order = first[np.argsort(gram[first], kind="stable")]
        lists = np.bincount(gram[order], minlength=len(keys))
        return cls(
            slots=_slots_of(keys),
            keys=keys,
            rank=rank,
            by_rank=by_rank,
            starts=starts,
            grams=gram.astype(np.uint32),
            list_starts=np.concatenate([[0], np.cumsum(lists)]),
            listed=item[order].astype(np.uint32),
        )

    def sizes(self, item: Ints) -> Ints:
        """Distinct grams of each item."""
        found: Ints = self.starts[item + 1] - self.starts[item]
        return found

    def known(self, hashes: Hashes) -> tuple[Ints, Ints]:
        """Which of the hashes are grams of an item: their places, and the grams."""
        if not len(self.keys):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        slot = hashes >> np.uint64(64 - _width(len(self.keys)))
        place = np.flatnonzero(self.slots[slot.view(np.int64)])
        sought = hashes[place]
        gram = np.searchsorted(self.keys, sought)
        gram[gram == len(self.keys)] = 0
        same = self.keys[gram] == sought
        return place[same], gram[same]

    def rarest(self, text: Ints, gram: Ints, wanted: Ints) -> tuple[Ints, Ints]:
        """The ``wanted`` rarest of the grams of each text, as (text, gram)."""
        packed = np.sort((text << 32) | self.rank[gram])
        counts = np.bincount(text, minlength=len(wanted))
        place = np.arange(len(packed)) - np.repeat(np.cumsum(counts) - counts, counts)
        packed = packed[place < np.repeat(wanted, counts)]
        return packed >> 32, self.by_rank[packed & 0xFFFFFFFF].astype(np.int64)

    def candidates(
        self,
        have: tuple[Ints, Ints],
        by: tuple[Ints, Ints],
        able: Callable[[Ints, Ints], Mask] | None = None,
    ) -> Iterator[Pairs]:
        """Pairs that share at least 4/5 of the item's grams, in pieces.

        Args:
            have: all grams found, as (text, gram), sorted, each pair once.
            by: the grams by which items are looked up, as (text, gram).
            able: whether (text, item) can match, where that is known without counting.
        """
        items = len(self.starts) - 1
        text, gram = by
        lists = self.list_starts[gram + 1] - self.list_starts[gram]
        for piece in _pieces(text, lists):
            sizes = lists[piece]
            item = self.listed[_ranges(self.list_starts[gram[piece]], sizes)].astype(np.int64)
            beside = np.repeat(text[piece], sizes)
            if able is not None:
                kept = able(beside, item)
                beside, item = beside[kept], item[kept]
            pair, matches = np.unique(beside * items + item, return_counts=True)
            beside, item = np.divmod(pair, items)
            kept = matches >= _asked(self.sizes(item))
            yield from self._counted(beside[kept], item[kept], have)

    def _counted(self, text: Ints, item: Ints, have: tuple[Ints, Ints]) -> Iterator[Pairs]:
        """Counts what each pair shares, text by text."""
        # One flag for each gram: a look-up costs a tenth of a binary search.
        flags = np.zeros(len(self.keys), bool)
        bounds = np.flatnonzero(np.diff(text, prepend=-1, append=-1)).tolist()
        for first, end in pairwise(bounds):
            low, high = np.searchsorted(have[0], [text[first], text[first] + 1])
            flags[have[1][low:high]] = True
            beside = item[first:end]
            sizes = self.sizes(beside)
            hit = flags[self.grams[_ranges(self.starts[beside], sizes)]]
            flags[have[1][low:high]] = False
            # No item without grams is listed, so no range is empty.
            shared = np.add.reduceat(hit, np.cumsum(sizes) - sizes, dtype=np.int64)
            enough = OF * shared >= NEAR * sizes
            if enough.any():
                yield Pairs(text[first:end][enough], beside[enough], shared[enough])


def prefix(sizes: Ints, larger: bool = False) -> Ints:
    """How many of the rarest grams are looked at.

    Args:
        sizes: distinct grams of each set.
        larger: whether the other set may be the larger one, up to 5/4, and asks for more.
    """
    asked = _asked(OF * sizes // NEAR if larger else sizes)
    found: Ints = np.where(sizes > 0, sizes - -(-NEAR * sizes // OF) + asked, 0)
    return found


def _asked(sizes: Ints) -> Ints:
    """Matches that an item's rarest grams must have: chance gives a long item one or two."""
    found: Ints = 1 + sizes // 32
    return found


def signs(text: Ints, hashes: Hashes, texts: int) -> Hashes:
    """A sign of 256 bits for each text's distinct grams, [texts, 4].

    Each gram turns one bit over, so two signs differ in no more bits than the sets in grams.
    """
    bit = (hashes >> np.uint64(20)).astype(np.int64) & 255
    turned = np.bincount(text * 256 + bit, minlength=texts * 256) & 1
    packed = np.packbits(turned.astype(np.uint8).reshape(texts, 256), axis=1)
    found: Hashes = packed.view(np.uint64)
    return found


def _ranges(starts: Ints, sizes: Ints) -> Ints:
    """All places of ranges that begin at ``starts``, one range after another."""
    before = np.cumsum(sizes) - sizes
    found: Ints = np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
    return found


def _pieces(text: Ints, sizes: Ints) -> Iterator[Ints]:
    """Places of whole texts, as many as their lists come to about _MOST_AT_ONCE."""
    used = np.flatnonzero(sizes)
    if not len(used):
        return
    first = np.flatnonzero(np.diff(text[used], prepend=-1))
    piece = np.cumsum(sizes[used])[first] // _MOST_AT_ONCE
    yield from np.split(used, first[1:][np.diff(piece) > 0])


def _width(keys: int) -> int:
    """Bits of a slot's number: 64 slots for each key, while they fit a cache."""
    return min(max((64 * keys - 1).bit_length(), 13), 24)


def _slots_of(keys: Hashes) -> npt.NDArray[np.uint8]:
    slots = np.zeros(1 << _width(len(keys)), np.uint8)
    slots[keys >> np.uint64(64 - _width(len(keys)))] = 1
    return slots
