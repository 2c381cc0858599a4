"""Many texts at once as numbers: exact keys, 5-grams of characters, n-grams of tokens.

All texts of a batch lie in one array of code points; ``starts`` [texts + 1] says where each
begins. Hashes are sums of random 64-bit values, weighted by powers of an odd number, modulo
2**64. Whoever finds something by them looks again at the texts themselves.

Legend: C code points, G n-grams, T tokens, N texts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.data.scripts import UNSPACED

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SHINGLE = 5
_ALNUM, _WORD, _TOKEN, _SINGLE, _UNSEEN = 1, 2, 4, 8, 16
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
_BLOCK = 12  # bits
_LONGEST_WINDOW = 64
# Above these planes nothing is a letter; tags and variation selectors stand at 0xE0000.
_LETTERS_END = 0x33480
_TAGS = range(0xE0000, 0xE01F0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Folded texts (NFKC, casefold) in one array.

    Attributes:
        codes: code points, [C].
        kinds: what each is, [C].
        starts: where each text begins, and the end, [N + 1].
    """

    codes: npt.NDArray[np.uint32]
    kinds: npt.NDArray[np.uint8]
    starts: Ints

    def only(self, chosen: Mask) -> Batch:
        """The same number of texts, all but the chosen ones [N] emptied."""
        if chosen.all():
            return self
        sizes = np.diff(self.starts)
        kept = np.repeat(chosen, sizes)
        starts = np.concatenate([[0], np.cumsum(np.where(chosen, sizes, 0))])
        return Batch(self.codes[kept], self.kinds[kept], starts)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Words and single characters of many texts.

    Attributes:
        hashes: one for each token, [T].
        starts: where each text's tokens begin, and the end, [N + 1].
        single: whether the token is one character of an unspaced script, [T].
        lengths: characters of each token, [T].
    """

    hashes: Hashes
    starts: Ints
    single: Mask
    lengths: Ints


def folded(text: str) -> str:
    """NFKC and casefold."""
    return unicodedata.normalize("NFKC", text).casefold()


def writable(text: str) -> str:
    """A lone surrogate has no UTF-8: it becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def batch_of(texts: Sequence[str]) -> Batch:
    """Texts that are folded already, laid one after another."""
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=starts[1:])
    # A lone surrogate is bad input for others to refuse: here it only must not stop the gate.
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(joined, np.uint32)
    return Batch(codes, _kinds()[codes], starts)


def spoken_lengths(batch: Batch) -> Ints:
    """How many letters and digits each text has, [N]."""
    found: Ints = np.diff(_after((batch.kinds & _ALNUM) != 0, batch.starts))
    return found


def exact_keys(batch: Batch) -> Hashes:
    """One hash for the letters and digits of each text, [N]; 0 for a text without any."""
    kept = (batch.kinds & _ALNUM) != 0
    starts = _after(kept, batch.starts)
    spoken = np.diff(starts) > 0
    keys = np.zeros(len(spoken), np.uint64)
    if spoken.any():
        keys[spoken] = _range_hashes(_values()[batch.codes[kept]], starts[:-1][spoken])
    return keys


def shingles(batch: Batch) -> tuple[Hashes, Ints]:
    """Hashes of all character 5-grams, [G], and the text of each, [G] ascending."""
    word = (batch.kinds & _WORD) != 0
    before = np.empty_like(word)
    before[1:] = word[:-1]
    # A text begins as if a blank stood before it, so that blanks at its start go.
    before[batch.starts[:-1][batch.starts[:-1] < len(word)]] = False
    kept = word | before
    codes = np.where(word, batch.codes, np.uint32(32))[kept]
    starts = _after(kept, batch.starts)
    ends = starts[1:].copy()
    full = ends > starts[:-1]
    # At most one blank is left at the end of a text.
    ends[full] -= codes[ends[full] - 1] == 32
    sizes = np.maximum(ends - starts[:-1] - (SHINGLE - 1), 0)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    if not len(owner):
        return np.zeros(0, np.uint64), owner
    first = np.arange(len(owner)) + np.repeat(starts[:-1] - (np.cumsum(sizes) - sizes), sizes)
    values, power = _values()[codes], _powers(_BASE, SHINGLE)
    found = values[: len(values) - SHINGLE + 1].copy()
    for offset in range(1, SHINGLE):
        found += values[offset : offset + len(found)] * power[offset]
    return found[first], owner


def tokens_in(batch: Batch) -> Tokens:
    """All tokens of all texts."""
    seen, first, ends = _token_ranges(batch)
    # Sums from the very start, so that each token costs a difference: hash = the sum over its
    # letters of value * base**place, moved back to place 0.
    # Few sizes, so that the tables of powers are made once.
    size = 1 << max(len(seen.codes).bit_length(), 16)
    sums = np.zeros(len(seen.codes) + 1, np.uint64)
    weighted = _values()[seen.codes]
    weighted *= _powers(_BASE, size)[: len(weighted)]
    np.cumsum(weighted, out=sums[1:])
    hashes = (sums[ends] - sums[first]) * _powers(_INVERSE, size)[first]
    single = (seen.kinds[first] & _SINGLE) != 0
    return Tokens(_mixed(hashes), np.searchsorted(first, seen.starts), single, ends - first)


def words_of(text: str) -> list[str]:
    """The tokens of one folded text as they are hashed: the same boundaries, as text."""
    seen, first, ends = _token_ranges(batch_of([text]))
    plain = seen.codes.tobytes().decode("utf-32-le", "surrogatepass")
    return [plain[a:b] for a, b in zip(first.tolist(), ends.tolist(), strict=True)]


class Windows:
    """Hashes of all runs of n tokens, for one n after another without starting again."""

    def __init__(self, tokens: Tokens) -> None:
        """Starts with runs of no tokens."""
        self._tokens = tokens
        self._sums = np.zeros(len(tokens.hashes), np.uint64)
        self._length = 0

    def of(self, length: int) -> Hashes:
        """Hashes of runs of ``length`` tokens, whatever texts they are in: see ``owners``.

        ``length`` must not be below the one before.
        """
        values, power = self._tokens.hashes, _powers(_BASE, _LONGEST_WINDOW)
        for offset in range(self._length, length):
            self._sums[: max(len(values) - offset, 0)] += values[offset:] * power[offset]
        self._length = length
        # The length is part of the hash: runs of different lengths stand in one table.
        found = self._sums[: max(len(values) - length + 1, 0)]
        return found + np.uint64(length * _BASE % 2**64)

    def owners(self, place: Ints) -> tuple[Ints, Mask]:
        """The text of the runs at ``place``, and whether the whole run is in that text."""
        starts = self._tokens.starts
        owner = np.searchsorted(starts, place, "right") - 1
        return owner, place + self._length <= starts[owner + 1]


def _token_ranges(batch: Batch) -> tuple[Batch, Ints, Ints]:
    """The batch without what nobody sees, and where each token begins and ends."""
    unseen = (batch.kinds & _UNSEEN) != 0
    if unseen.any():
        kept = ~unseen
        batch = Batch(batch.codes[kept], batch.kinds[kept], _after(kept, batch.starts))
    inside = (batch.kinds & _TOKEN) != 0
    # A boundary before each character (and at the end): where either side does not go on.
    cut = np.ones(len(inside) + 1, bool)
    single = (batch.kinds & _SINGLE) != 0
    cut[1:-1] = (inside[1:] != inside[:-1]) | single[1:] | single[:-1]
    cut[batch.starts] = True
    bounds = np.flatnonzero(cut)
    token = inside[bounds[:-1]]
    return batch, bounds[:-1][token], bounds[1:][token]


def _after(kept: Mask, starts: Ints) -> Ints:
    """Where texts begin once only ``kept`` code points are left."""
    places = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(kept, out=places[1:])
    return places[starts]


def _range_hashes(values: Hashes, starts: Ints) -> Hashes:
    """Hashes of consecutive ranges; each begins at one of ``starts``, and none is empty."""
    place = np.arange(len(values))
    place -= np.repeat(starts, np.diff(starts, append=len(values)))
    power = _powers(_BASE, 1 << _BLOCK)
    blocks = int(place.max(initial=0)) >> _BLOCK
    if blocks:
        # Two short tables in the place of one as long as the longest text.
        further = _powers(pow(_BASE, 1 << _BLOCK, 1 << 64), blocks + 1)[place >> _BLOCK]
        values = values * further
        place &= (1 << _BLOCK) - 1
    weight = power[place]
    found: Hashes = np.add.reduceat(values * weight, starts)
    return found


@lru_cache(32)
def _powers(base: int, count: int) -> Hashes:
    """base**0, base**1, ... modulo 2**64."""
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    found: Hashes = np.cumprod(powers, dtype=np.uint64)
    return found


def _mixed(hashes: Hashes) -> Hashes:
    """splitmix64 (Steele et al. 2014): every bit hangs on every bit."""
    mixed = hashes ^ (hashes >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


@cache
def _values() -> Hashes:
    """A random 64-bit value for each code point; the same in every process."""
    return _mixed(np.arange(1, 0x110001, dtype=np.uint64) * np.uint64(_BASE))


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """What each code point is: bits of _ALNUM, _WORD, _TOKEN, _SINGLE, _UNSEEN."""
    kinds = np.zeros(0x110000, np.uint8)
    for code in (*range(_LETTERS_END), *_TAGS):
        character = chr(code)
        category = unicodedata.category(character)
        if character.isalnum():
            kinds[code] = _ALNUM | _WORD | _TOKEN
        elif category[0] == "M" and not 0xFE00 <= code <= 0xFE0F and code < _LETTERS_END:
            # Vowel signs belong to the word that they stand in.
            kinds[code] = _TOKEN
        elif category in {"Cf", "Mn"}:
            # Soft hyphens, joiners, variation selectors: nobody sees them.
            kinds[code] = _UNSEEN
    kinds[ord("_")] = _WORD
    for first, last in UNSPACED:
        part = kinds[first : last + 1]
        part[(part & _TOKEN) > 0] |= _SINGLE
    return kinds
