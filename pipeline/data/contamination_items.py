"""What an index knows of the test items: their keys, signs and grams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.data.contamination import Item
from pipeline.data.contamination_grams import GramTable, signs
from pipeline.data.contamination_proof import LONGEST_RUN, carrier
from pipeline.data.contamination_text import (
    Batch,
    Hashes,
    Ints,
    Tokens,
    Windows,
    batch_of,
    exact_keys,
    folded,
    shingles,
    spoken_lengths,
    tokens_in,
)
from pipeline.data.contamination_weight import heavy

# The number of a text fits in the low 12 bits that the hash of a 5-gram gives up.
MOST_TEXTS, TEXT_BITS = 4096, np.uint64(12)
MOST_CHARACTERS = 1 << 20
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ItemArrays:
    """What is known of the items beside their grams.

    Attributes:
        keys: exact keys of the items that have letters or digits, sorted.
        key_items: the item of each key.
        spoken: numbers of letters and digits that items have, ascending.
        signs: 256 bits for each item's 5-grams, [items * 4].
        heavy: 1 where an item weighs enough to be contained, [items].
        run_lengths: the lengths of token runs in use, ascending.
        longest: characters of the longest item, one number.
    """

    keys: Hashes
    key_items: Ints
    spoken: Ints
    signs: Hashes
    heavy: Ints
    run_lengths: Ints
    longest: Ints


def arrays_of(items: Sequence[Item], filled: Ints) -> tuple[ItemArrays, GramTable, GramTable]:
    """What is known of the items, their 5-grams and their runs of tokens.

    Args:
        filled: 1 where an item is compared by ``exact`` only, [items].
    """
    texts = [folded(item.whole) for item in items]
    carriers = [folded(carrier(item)) for item in items]
    keys, spoken, weigh, marks = [], [], [], []
    near: list[tuple[Hashes, Ints]] = []
    runs: list[tuple[Hashes, Ints, Ints]] = []
    begin = 0
    for part in parts(texts, len):
        batch = batch_of(part)
        tokens = tokens_in(batch_of(carriers[begin : begin + len(part)]))
        keys.append(exact_keys(batch))
        spoken.append(spoken_lengths(batch))
        alone = filled[begin : begin + len(part)] == 0
        hashes, text = near_grams(batch.only(alone))
        near.append((hashes, text + begin))
        marks.append(signs(text, hashes, len(part)).ravel())
        weigh.append(heavy(tokens))
        runs.append(_runs(tokens, weigh[-1] * alone, begin))
        begin += len(part)
    key, said = _together(keys, np.uint64), _together(spoken, np.int64)
    order = np.flatnonzero(said)
    order = order[np.argsort(key[order], kind="stable")]
    arrays = ItemArrays(
        keys=key[order],
        key_items=order,
        spoken=np.unique(said[order]),
        signs=_together(marks, np.uint64),
        heavy=_together(weigh, np.int64),
        run_lengths=np.unique(_together([lengths for _, _, lengths in runs], np.int64)),
        longest=np.array([max(map(len, texts), default=0)], np.int64),
    )
    tables = [
        GramTable.build(
            _together([grams[0] for grams in found], np.uint64),
            _together([grams[1] for grams in found], np.int64),
            len(texts),
        )
        for found in (near, runs)
    ]
    return arrays, tables[0], tables[1]


def near_grams(batch: Batch) -> tuple[Hashes, Ints]:
    """Distinct 5-grams of each text (the low TEXT_BITS of a hash cleared) and their texts.

    Sorted by text and hash; at most MOST_TEXTS texts.
    """
    hashes, text = shingles(batch)
    # Text and hash in one number: one sort makes the grams of each text distinct.
    packed = np.sort((text.astype(np.uint64) << (64 - TEXT_BITS)) | (hashes >> TEXT_BITS))
    packed = packed[np.diff(packed, prepend=np.uint64(2**64 - 1)) != 0]
    return packed << TEXT_BITS, (packed >> (64 - TEXT_BITS)).astype(np.int64)


def parts(entries: Iterable[_T], size: Callable[[_T], int]) -> Iterator[list[_T]]:
    """Texts in parts of bounded number and length."""
    part: list[_T] = []
    length = 0
    for entry in entries:
        more = size(entry)
        if part and (len(part) == MOST_TEXTS or length + more > MOST_CHARACTERS):
            yield part
            part, length = [], 0
        part.append(entry)
        length += more
    if part:
        yield part


def _runs(tokens: Tokens, weigh: Ints, begin: int) -> tuple[Hashes, Ints, Ints]:
    """Runs of the heavy texts, each of its own length; the item of each; the lengths in use."""
    lengths = np.where(weigh, np.minimum(np.diff(tokens.starts), LONGEST_RUN), 0)
    used = np.unique(lengths[lengths > 0])
    windows = Windows(tokens)
    hashes, texts = [], []
    for length in used.tolist():
        run = windows.of(length)
        text, whole = windows.owners(np.arange(len(run)))
        own = whole & (lengths[text] == length)
        hashes.append(run[own])
        texts.append(text[own] + begin)
    return _together(hashes, np.uint64), _together(texts, np.int64), used


def _together(pieces: Sequence[npt.NDArray[Any]], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *pieces])
