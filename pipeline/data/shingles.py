"""What a text is known by: its letters and digits, or its set of 5-grams of characters.

Shingles (Broder 1997, "On the resemblance and containment of documents") are taken from the
text after NFKC, casefold and every run of non-word characters made one space. A text of fewer
than SHINGLE characters is one shingle; a text without any word character has none.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.data.spans import Indices, Keys, distinct

SHINGLE = 5
# A key is row in block (12 bits), level (4) and hash (48), so that one sort of plain 64-bit
# numbers groups by row and puts rare shingles first.
BLOCK_ROWS = 1 << 12
BLOCK_CHARACTERS = 1 << 20
HASH_BITS = 48
KEY_BITS = HASH_BITS + 4
LEVEL_TABLE_BITS = 18
_SEPARATOR = ord("\n")
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """The distinct shingles of a block of R texts, as hashes.

    Attributes:
        keys: uint64[K]; level (4 bits) above hash (48 bits), ascending within each text.
        starts: int64[R + 1]; text r holds keys[starts[r] : starts[r + 1]].
    """

    keys: Keys
    starts: Indices

    @property
    def sizes(self) -> Indices:
        """int64[R]: distinct shingles of each text."""
        return np.diff(self.starts)


class Texts:
    """Texts by range and by position, from a sequence or an Arrow column read where it lies.

    Args:
        column: A sequence of str, or a pyarrow Array or ChunkedArray of strings; a null counts
            as an empty text.
    """

    def __init__(self, column: Sequence[str] | Any) -> None:
        chunks = getattr(column, "chunks", None)
        if chunks is None:
            chunks = [column]
        self._chunks = [chunk for chunk in chunks if len(chunk)]
        self._offsets = np.cumsum([0, *map(len, self._chunks)])

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def pick(self, rows: Indices) -> list[str]:
        """The texts at ``rows``, in that order."""
        found: list[str] = [""] * len(rows)
        chunk_of = np.searchsorted(self._offsets, rows, side="right") - 1
        # Chunk by chunk: Arrow's own take over chunks may copy the whole column.
        for number in np.flatnonzero(np.bincount(chunk_of)):
            at = np.flatnonzero(chunk_of == number)
            chunk, within = self._chunks[number], rows[at] - self._offsets[number]
            if hasattr(chunk, "to_pylist"):
                texts = chunk.take(within).to_pylist()
            else:
                texts = [chunk[row] for row in within.tolist()]
            for place, text in zip(at.tolist(), texts, strict=True):
                found[place] = text or ""
        return found

    def blocks(self, rows: Indices) -> Iterator[list[str]]:
        """The texts at ``rows`` in blocks that shingle_sets takes, in order."""
        for start in range(0, len(rows), BLOCK_ROWS):
            yield from _bounded(self.pick(rows[start : start + BLOCK_ROWS]))


def letters_and_digits(text: str) -> str:
    """NFKC, casefolded, letters and digits only: what makes two texts the same text."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _NOT_ALPHANUMERIC.sub("", text.casefold())


def exact_groups(texts: Sequence[str] | Any) -> Indices:
    """Which rows are the same text.

    Texts are compared by 128 bits of BLAKE2b over their letters_and_digits; a text that has
    none is the same only as its very self.

    Returns:
        int64[N]: for each row, the first row with the same text.
    """
    column = Texts(texts)
    digests = bytearray()
    for block in column.blocks(np.arange(len(column))):
        digests += b"".join(map(_text_digest, block))
    return first_of_same(np.frombuffer(digests, np.uint64).reshape(-1, 2))


def multipliers(seed: int) -> Keys:
    """uint64[SHINGLE]: odd numbers from which shingle_sets makes its hashes."""
    drawn = np.random.default_rng(seed).integers(0, 1 << 63, SHINGLE, dtype=np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)


def shingle_sets(texts: Sequence[str], odd: Keys, levels: Keys | None = None) -> ShingleSets:
    """Hashes the distinct shingles of at most BLOCK_ROWS texts.

    Args:
        texts: The texts.
        odd: From ``multipliers``.
        levels: uint64[2 ** LEVEL_TABLE_BITS], each below 16, by the hash's highest bits: the
            part of a key above its hash. Without it all are 0.
    """
    codes, ends = _words(texts)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts
    padded = np.concatenate((codes, np.zeros(SHINGLE, codes.dtype))).astype(np.uint64)
    windows = np.zeros(len(codes), np.uint64)
    for place, odd_number in enumerate(odd):
        windows += padded[place : place + len(codes)] * odd_number
    rows = np.repeat(np.arange(len(texts)), lengths + 1)[: len(codes)]
    whole = np.arange(len(codes)) + SHINGLE <= ends[rows]
    short = np.flatnonzero((lengths > 0) & (lengths < SHINGLE))
    hashes = mixed(np.concatenate((windows[whole], _short(padded, starts, lengths, short, odd))))
    keys = hashes >> np.uint64(64 - HASH_BITS)
    if levels is not None:
        by = keys >> np.uint64(HASH_BITS - LEVEL_TABLE_BITS)
        keys |= levels[by.astype(np.intp)] << np.uint64(HASH_BITS)
    keys |= np.concatenate((rows[whole], short)).astype(np.uint64) << np.uint64(KEY_BITS)
    return _sets(keys, len(texts))


def hash_of(keys: Keys) -> Keys:
    """uint64: the HASH_BITS of each key that are its shingle's hash."""
    return keys & np.uint64((1 << HASH_BITS) - 1)


def _bounded(texts: list[str]) -> Iterator[list[str]]:
    """Cuts where a block would hold more than BLOCK_CHARACTERS; one long text stands alone."""
    block: list[str] = []
    room = BLOCK_CHARACTERS
    for text in texts:
        if block and len(text) > room:
            yield block
            block, room = [], BLOCK_CHARACTERS
        block.append(text)
        room -= len(text)
    if block:
        yield block


def _words(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], Indices]:
    """Code points of the normalised texts with line breaks between them, and where each ends."""
    joined = "\n".join(
        [
            (text if text.isascii() else unicodedata.normalize("NFKC", text)).replace("\n", " ")
            for text in texts
        ]
    )
    # As one string: casefold looks at single characters only.
    folded = joined.casefold().encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(folded, np.uint32)
    word = _word_table()[codes]
    separator = codes == _SEPARATOR
    after_word = np.zeros(len(codes), np.bool_)
    after_word[1:] = word[:-1]
    kept = word | separator | after_word
    codes = np.where(word | separator, codes, np.uint32(ord(" ")))[kept]
    ahead_of_end = np.ones(len(codes), np.bool_)
    ahead_of_end[:-1] = codes[1:] == _SEPARATOR
    codes = codes[~((codes == ord(" ")) & ahead_of_end)]
    ends = np.flatnonzero(codes == _SEPARATOR)
    return codes, np.append(ends, len(codes))


def _short(padded: Keys, starts: Indices, lengths: Indices, short: Indices, odd: Keys) -> Keys:
    """One window for each text below SHINGLE characters; what it lacks counts as 0."""
    found = np.zeros(len(short), np.uint64)
    for place, odd_number in enumerate(odd):
        there = lengths[short] > place
        found += np.where(there, padded[starts[short] + place], np.uint64(0)) * odd_number
    return found


def _sets(keys: Keys, rows: int) -> ShingleSets:
    keys = distinct(keys)
    edges = np.arange(rows + 1, dtype=np.uint64) << np.uint64(KEY_BITS)
    starts = np.searchsorted(keys, edges[:rows])
    below = np.uint64((1 << KEY_BITS) - 1)
    return ShingleSets(keys & below, np.append(starts, len(keys)))


def mixed(values: Keys) -> Keys:
    """uint64: values scattered over all bits, one to one (SplitMix64; Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=1)
def _word_table() -> npt.NDArray[np.bool_]:
    """bool[0x110000]: what ``\\w`` matches, by code point."""
    return np.fromiter(
        (character.isalnum() or character == "_" for character in map(chr, range(0x110000))),
        np.bool_,
        0x110000,
    )


def _text_digest(text: str) -> bytes:
    found = letters_and_digits(text)
    # Salted, so that a text of symbols is never taken for a text of letters.
    salt = b"" if found else b"symbols"
    return hashlib.blake2b(
        (found or text).encode("utf-8", "surrogatepass"), digest_size=16, salt=salt
    ).digest()


def first_of_same(fingerprints: Keys) -> Indices:
    """int64[N]: for each row of uint64[N, 2], the first row that is equal to it."""
    order = np.lexsort((fingerprints[:, 1], fingerprints[:, 0]))
    ordered = fingerprints[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), np.int64)
    # lexsort is stable: the first of each run is the lowest row.
    first[order] = order[new][np.cumsum(new) - 1]
    return first
