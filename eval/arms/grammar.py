"""What may be written next where nothing but a label may be: by bytes as engines do, or by ids."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol

from eval.arms.trie import Answers, Trie

Pieces = Mapping[int, bytes]
"""Token id to the bytes that it writes; markup writes none and is not in it."""


class Step(NamedTuple):
    """A stretch of writing.

    Attributes:
        ids: that are written, and were not read yet.
        place: where that leads, in the grammar's own terms.
        label: which it is, as soon as it can be no other; None as long as it can.
    """

    ids: list[int]
    place: Any
    label: str | None


class Grammar(Protocol):
    """Which tokens lead to a label.

    Attributes:
        longest: tokens of the longest rendered answer, its end included: the room that a prompt
            must leave.
        slots: places of a cache that the writing of a batch takes at most, holes included.
    """

    longest: int
    slots: int

    def start(self) -> Step:
        """Before anything is chosen."""

    def next_tokens(self, place: Any, left: int | None = None) -> list[int]:
        """The ids that may follow, ascending.

        Args:
            place: where the writing stands.
            left: tokens that may still be written; at least one of the labels that are open
                fits in them. None: any number.
        """

    def after(self, place: Any, token: int) -> Step:
        """What a chosen token leads to."""


def grammar_of(answers: Answers, pieces: Pieces | None, stops: Collection[int]) -> Grammar:
    """The grammar of an engine's structured outputs where the bytes of tokens are known.

    Else, and where an answer holds markup, that of the rendered ids alone.

    Raises:
        DataError: no labels, or labels that cannot be told apart.
    """
    trie = Trie(answers)
    texts = {}
    for label, ids in answers.items():
        if pieces is None or ids[-1] not in stops or any(i not in pieces for i in ids[:-1]):
            return ById(trie)
        texts[label] = b"".join(pieces[i] for i in ids[:-1])
    if pieces is None or len({*texts.values()}) < len(texts):
        return ById(trie)
    return ByBytes(texts, pieces, stops, max(map(len, answers.values())))


class ByBytes:
    """Every token whose bytes go on towards a label, and after one its end.

    So engines compile a choice (xgrammar, Dong et al. 2024, section 3): a label may be written in
    any pieces, not in the tokenizer's own alone. A place is what was written.

    Pieces may be single bytes, so a label can take more tokens than it is rendered to. Near the
    end of the context only tokens may follow from which some label can still be ended: an engine
    would write on and be cut there, with no label to show for it.
    """

    def __init__(
        self, texts: Mapping[str, bytes], pieces: Pieces, stops: Collection[int], longest: int
    ) -> None:
        """Takes labels with bytes of their own.

        Args:
            texts: label to the bytes of its answer.
            pieces: of the tokenizer.
            stops: ids that end an answer.
            longest: see Grammar.
        """
        self._texts, self._stops = dict(texts), sorted(stops)
        self._labels = {text: label for label, text in texts.items()}
        self._pieces = pieces
        self._ids: dict[bytes, list[int]] = {}
        for token, piece in pieces.items():
            if piece:
                self._ids.setdefault(piece, []).append(token)
        self._widest = max(map(len, self._ids), default=0)
        self._known: dict[bytes, list[int]] = {}
        self._needed: dict[bytes, list[float]] = {}
        self.longest = longest
        self.slots = max(map(len, texts.values())) + 1

    def start(self) -> Step:
        """See Grammar."""
        return self._step([], b"")

    def next_tokens(self, place: bytes, left: int | None = None) -> list[int]:
        """See Grammar."""
        tokens = self._opened(place)
        # A byte a token and the end: more is never written.
        if left is None or left >= self.slots - len(place):
            return tokens
        return [token for token in tokens if self._to_end(place, token) < left]

    def _opened(self, place: bytes) -> list[int]:
        """The ids that lead towards a label, however many follow."""
        if place not in self._known:
            rests = [t[len(place) :] for t in self._labels if t.startswith(place)]
            opens = {rest[: end + 1] for rest in rests for end in range(len(rest))}
            found = [token for piece in opens for token in self._ids.get(piece, ())]
            self._known[place] = sorted([*found, *(self._stops if place in self._labels else ())])
        return self._known[place]

    def after(self, place: bytes, token: int) -> Step:
        """See Grammar."""
        if token in self._stops:
            return Step([token], place, self._labels[place])
        return self._step([token], place + self._pieces[token])

    def _to_end(self, place: bytes, token: int) -> float:
        """Tokens that must follow this one until a label is ended, at least."""
        if token in self._stops:
            return 0
        written = place + self._pieces[token]
        return min(self._needs(t)[len(written)] for t in self._labels if t.startswith(written))

    def _needs(self, text: bytes) -> list[float]:
        """For each number of bytes written: tokens that write the rest and end it, at least."""
        if text not in self._needed:
            needs = [*[float("inf")] * len(text), 1.0]
            for start in reversed(range(len(text))):
                ends = range(start + 1, min(start + self._widest, len(text)) + 1)
                found = [1 + needs[end] for end in ends if text[start:end] in self._ids]
                needs[start] = min(found, default=needs[start])
            self._needed[text] = needs
        return self._needed[text]

    def _step(self, ids: list[int], place: bytes) -> Step:
        left = [label for label, text in self._texts.items() if text.startswith(place)]
        return Step(ids, place, left[0] if len(left) == 1 else None)


class ById:
    """The ids to which each answer is rendered, and no others. A place is a node of their trie."""

    def __init__(self, trie: Trie) -> None:
        self._trie = trie
        self.longest = max(trie.lengths)
        # A step may leave a hole as long as a label in the cache, and windows count holes.
        self.slots = self.longest * self.longest

    def start(self) -> Step:
        """See Grammar."""
        return self._forced([], 0)

    def next_tokens(self, place: int, left: int | None = None) -> list[int]:
        """See Grammar; the rendered ids of every label fit."""
        return sorted(self._trie.next_tokens(place))

    def after(self, place: int, token: int) -> Step:
        """See Grammar."""
        return self._forced([token], self._trie.after(place, token))

    def _forced(self, ids: list[int], place: int | str) -> Step:
        """On to where there are several ways, or a label ends."""
        while isinstance(place, int) and len(self._trie.next_tokens(place)) == 1:
            ids = [*ids, *self._trie.next_tokens(place)]
            place = self._trie.after(place, ids[-1])
        return Step(ids, place, place if isinstance(place, str) else None)


def pieces_of(tokenizer: Any) -> Pieces | None:
    """The bytes of each token that writes some; None of a tokenizer whose bytes nobody can tell.

    Byte-level BPE writes each byte as one visible character (GPT-2's table); SentencePiece a blank
    as U+2581 and single bytes as <0xNN>. Special tokens are left out, as engines do.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.decoder is None:
        return None
    decoder = json.loads(backend.decoder.__getstate__())
    kinds = {part["type"] for part in [decoder, *decoder.get("decoders", ())]}
    special = {*tokenizer.all_special_ids}
    added = tokenizer.added_tokens_decoder
    special |= {token for token, about in added.items() if about.special}
    found: dict[int, bytes] = {}
    by_byte = {letter: byte for byte, letter in _visible().items()}
    for name, token in tokenizer.get_vocab().items():
        if token in special:
            continue
        if token in added:
            found[token] = name.encode()
        elif "ByteLevel" in kinds:
            if all(letter in by_byte for letter in name):
                found[token] = bytes(by_byte[letter] for letter in name)
        elif "ByteFallback" in kinds:
            byte = name.startswith("<0x") and name.endswith(">") and len(name) == 6
            found[token] = (
                bytes([int(name[3:5], 16)]) if byte else name.replace("\u2581", " ").encode()
            )
        else:
            return None
    return found


def _visible() -> dict[int, str]:
    """GPT-2's visible character of each byte (Radford et al. 2019; encoder.py)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + place) for place, byte in enumerate(others)
    }
