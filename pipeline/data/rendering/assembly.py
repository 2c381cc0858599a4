"""Drafts to ids and flags, and the proof that a turn's prompt has the ids that serving makes.

Added tokens cut a text before anything else is done to it, so a row is cut before those that
stand nearest to the turns' bounds, and its pieces are tokenised in one batch. A bound inside
a piece is proved: the piece must begin with the ids of its own beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.data.rendering.encoding import Encoder, Ids
from pipeline.data.rendering.turns import Draft

_REACH = 256


@dataclass(frozen=True, slots=True)
class Rendered:
    """One row as the model sees it.

    Attributes:
        input_ids: token ids, length T.
        supervised: T flags, 1 where the token is in the loss.
        prompt: ids before the last learned turn that serving would make; what the template
            puts between them and that turn (an empty thought) is not learned either. None:
            every token is learned.
    """

    input_ids: list[int]
    supervised: list[int]
    prompt: int | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """A draft whose ids the tokenizer joins across the bounds of these turns."""

    turns: frozenset[int]
    bounds: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Cut:
    """A draft's pieces by their starts; for each bound the start that is nearest before it."""

    pieces: dict[int, str]
    bounds: dict[int, int]


class Assembly:
    """Tokenises drafts with one tokenizer."""

    def __init__(self, tokenizer: Any, encoder: Encoder, source: str) -> None:
        """``source`` is the template's: tokens that stand elsewhere bound no turn."""
        self._encoder = encoder
        self._marks = _marks(tokenizer, source)

    def rows(self, drafts: Sequence[Draft]) -> list[Rendered | Joined]:
        """Every draft as a row, or which turns are to be taken apart, in order."""
        cuts = [self._cut(draft) for draft in drafts]
        texts: dict[str, None] = {}
        for draft, cut in zip(drafts, cuts, strict=True):
            texts.update(dict.fromkeys(cut.pieces.values()))
            texts.update(dict.fromkeys(draft.text[s:b] for b, s in cut.bounds.items() if s < b))
        known = dict(zip(texts, self._encoder.many(list(texts)), strict=True))
        return [_row(draft, cut, known) for draft, cut in zip(drafts, cuts, strict=True)]

    def _cut(self, draft: Draft) -> _Cut:
        text, starts, bounds = draft.text, [0], {}
        wanted = {b for t in draft.turns or () for b in (t.prompt, t.start, t.end)}
        for bound in sorted(wanted - {len(text)}):
            if bound in draft.forced:
                place = bound
            else:
                place = self._before(text, starts[-1], bound)
            if place > starts[-1]:
                starts.append(place)
            bounds[bound] = starts[-1]
        ends = [*starts[1:], len(text)]
        pieces = {s: text[s:e] for s, e in zip(starts, ends, strict=True)}
        return _Cut(pieces, bounds)

    def _before(self, text: str, low: int, bound: int) -> int:
        """Where the last added token before a bound (or at it) begins; ``low`` where none is."""
        best = low
        for mark, takes_blanks in self._marks:
            found = text.rfind(mark, max(low, bound - _REACH), bound + len(mark))
            if found > best and not (takes_blanks and text[found - 1].isspace()):
                best = found
        return best


def _row(draft: Draft, cut: _Cut, known: dict[str, Ids]) -> Rendered | Joined:
    text, ids = draft.text, list[int]()
    at = {0: 0}
    broken = set()
    for start, piece in cut.pieces.items():
        own = known[piece]
        for bound, nearest in cut.bounds.items():
            if nearest == start:
                head = known[text[start:bound]] if bound > start else []
                if own[: len(head)] != head:
                    broken.add(bound)
                at[bound] = len(ids) + len(head)
        ids += own
    at[len(text)] = len(ids)
    if draft.turns is None:
        return Rendered(ids, [1] * len(ids))
    if broken:
        turns = [t for t in draft.turns if broken & {t.prompt, t.start, t.end}]
        return Joined(frozenset(t.index for t in turns), frozenset(broken))
    supervised = [0] * len(ids)
    for turn in draft.turns:
        first, last = at[turn.start], at[turn.end]
        supervised[first:last] = [1] * (last - first)
    return Rendered(ids, supervised, at[draft.turns[-1].prompt])


def _marks(tokenizer: Any, source: str) -> list[tuple[str, bool]]:
    """Added tokens before which a text may be cut, and whether they take blanks before them.

    Those that are matched in the text as it stands (not normalised), whatever stands around
    them, and within no other added token.
    """
    added = list(tokenizer.added_tokens_decoder.values())
    core = getattr(tokenizer, "_tokenizer", None)
    plain = core is not None and core.normalizer is None
    given = set(tokenizer.special_tokens_map.values())
    contents = [token.content for token in added]
    return [
        (token.content, bool(token.lstrip))
        for token in added
        if token.content.strip()
        and (token.content in source or token.content in given)
        and (plain or not token.normalized)
        and not token.single_word
        and not any(token.content in other[1:] for other in contents)
    ]
