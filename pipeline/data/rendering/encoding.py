"""Text to ids through the tokenizer's own backend, every word once.

Tokenising is most of the cost of `prepare`, and text repeats its words. Where a tokenizer
treats the words of a text one by one (its pre-tokenizer cuts before each blank, and nothing
looks across), the ids of a text are those of its words joined, and a word's ids are kept.
That is proved for each tokenizer before it is used, and checked once more in every batch;
other tokenizers get the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from pipeline.core.errors import ModelError

Ids = list[int]
# Between printable ASCII characters on both sides: what is proved below, and no more.
_BLANK = re.compile(r" (?=[!-~])(?<=[!-~] )")
_LONGEST_KEPT = 48
_MOST_KEPT = 50_000
_CHECKED = 2000
_CHAIN = 64
_PROBE = "Ab, c\n\n 1. x\u4e2d\u6587 \u00e9 done."


class Encoder:
    """One tokenizer's text to ids, nothing added before or after."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        core = getattr(tokenizer, "_tokenizer", None)
        plain = list(tokenizer(_PROBE, add_special_tokens=False)["input_ids"])
        if core is None or not hasattr(core, "encode_batch_fast") or _direct(core) != plain:
            # A tokenizer in Python, or one that does more than its backend.
            core = None
        self._core = core
        self._by_word = core is not None and words_stand_apart(tokenizer)
        added = tokenizer.added_tokens_decoder.values()
        self._greedy = tuple(f"{token.content} " for token in added if token.rstrip)
        self._link = _link(tokenizer)
        # Separate, as a word has other ids where no blank stands before it.
        self._first: dict[str, tuple[int, ...]] = {}
        self._after: dict[str, tuple[int, ...]] = {}

    def one(self, text: str) -> Ids:
        """Ids of one text."""
        return self.many([text])[0]

    def many(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of every text, in order.

        Raises:
            ModelError: words tokenised apart differ from the text as a whole.
        """
        if not self._by_word or not texts:
            return self.whole(texts)
        words = [[text] if self._swallows(text) else _BLANK.split(text) for text in texts]
        firsts = [each.pop(0) for each in words]
        self._learn(self._first, "", firsts)
        self._learn(self._after, " ", chain.from_iterable(words))
        after = self._after.__getitem__
        found = [
            list(chain(self._first[first], chain.from_iterable(map(after, rest))))
            for first, rest in zip(firsts, words, strict=True)
        ]
        self._check(texts, found)
        self._forget()
        return found

    def whole(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of every text, each given to the tokenizer as a whole."""
        if self._core is None:
            return [list(self._tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
        # Somebody else's call may have left them set; the backend is shared.
        if self._core.truncation is not None:
            self._core.no_truncation()
        if self._core.padding is not None:
            self._core.no_padding()
        made = self._core.encode_batch_fast(list(texts), add_special_tokens=False)
        return [each.ids for each in made]

    def _swallows(self, text: str) -> bool:
        """Whether an added token takes the blank after it into itself."""
        return any(token in text for token in self._greedy)

    def _learn(self, known: dict[str, tuple[int, ...]], before: str, words: Iterable[str]) -> None:
        new = list(set(words).difference(known))
        if before:
            known.update(self._chained(new))
        new = [word for word in new if word not in known]
        for word, ids in zip(new, self.whole([before + word for word in new]), strict=True):
            known[word] = tuple(ids)

    def _chained(self, words: list[str]) -> dict[str, tuple[int, ...]]:
        """Ids of words after a blank, many in one text: half the cost of one text for each.

        An added token stands between them, which cuts the text as a text's end does.
        """
        link = self._link
        if link is None:
            return {}
        fit = [word for word in words if len(word) <= _LONGEST_KEPT and link[0] not in word]
        groups = [fit[start : start + _CHAIN] for start in range(0, len(fit), _CHAIN)]
        found: dict[str, tuple[int, ...]] = {}
        texts = [link[0].join(f" {word}" for word in group) for group in groups]
        for group, ids in zip(groups, self.whole(texts), strict=True):
            parts, start = [], 0
            for end in [i for i, each in enumerate(ids) if each == link[1]]:
                parts.append(tuple(ids[start:end]))
                start = end + 1
            parts.append(tuple(ids[start:]))
            if len(parts) == len(group):
                found.update(zip(group, parts, strict=True))
        return found

    def _check(self, texts: Sequence[str], found: Sequence[Ids]) -> None:
        short = [index for index, text in enumerate(texts) if len(text) <= _CHECKED]
        index = max(short, key=lambda i: len(texts[i]), default=None)
        if index is not None and self.whole([texts[index]])[0] != found[index]:
            raise ModelError(
                f"base: its tokenizer reads {texts[index][:60]!r} otherwise than word by word; "
                "report this tokenizer, and use another base"
            )

    def _forget(self) -> None:
        """Bounded: a word that is long stays for one batch, and all go when there are many."""
        for known in (self._first, self._after):
            if len(known) > _MOST_KEPT:
                known.clear()
            for word in [word for word in known if len(word) > _LONGEST_KEPT]:
                del known[word]


def words_stand_apart(tokenizer: Any) -> bool:
    """Whether a text's ids are those of its words, cut before single blanks.

    True where the pre-tokenizer cuts before the blank between any two printable ASCII
    characters, which is tried for one of every kind and every punctuation mark, and the ids
    agree; and where nothing else looks across: the normalizer is none or NFC (to which ASCII
    is nothing), no added token holds a blank between two such characters or asks for the
    end of a word, and the model draws no lots (BPE dropout).
    """
    core = tokenizer._tokenizer
    if core.pre_tokenizer is None or type(core.normalizer).__name__ not in ("NoneType", "NFC"):
        return False
    if getattr(core.model, "dropout", None):
        return False
    added = tokenizer.added_tokens_decoder.values()
    if any(token.single_word or _BLANK.search(token.content) for token in added):
        return False
    marks = [c for c in map(chr, range(33, 127)) if not c.isalnum()] + ["a", "Z", "s", "0", "9"]
    pairs = [(a, b) for a in marks for b in marks]
    for a, b in pairs:
        cut = core.pre_tokenizer.pre_tokenize_str(f"w{a} {b}w")
        if not any(start == 2 for _, (start, _) in cut):
            return False
    lefts = {form: form for a in marks for form in (a, f"w{a}", f"{a}{a}", f"\n{a}")}
    rights = {form: f" {form}" for b in marks for form in (b, f"{b}w", f"{b}{b}", f"{b}\n")}
    return _sums(core, lefts, rights, pairs)


def _sums(core: Any, lefts: dict[str, str], rights: dict[str, str], pairs: Any) -> bool:
    def ids(texts: Sequence[str]) -> list[Ids]:
        made = core.encode_batch_fast(list(texts), add_special_tokens=False)
        return [each.ids for each in made]

    left = dict(zip(lefts, ids(list(lefts.values())), strict=True))
    right = dict(zip(rights, ids(list(rights.values())), strict=True))
    forms = [
        form
        for a, b in pairs
        for form in ((a, b), (f"w{a}", f"{b}w"), (f"{a}{a}", f"{b}{b}"), (f"\n{a}", f"{b}\n"))
    ]
    joint = ids([f"{a} {b}" for a, b in forms])
    return all(left[a] + right[b] == both for (a, b), both in zip(forms, joint, strict=True))


def _direct(core: Any) -> Ids:
    return list(core.encode(_PROBE, add_special_tokens=False).ids)


def _link(tokenizer: Any) -> tuple[str, int] | None:
    """A special token, with its id, that cuts a text whatever stands around it."""
    added = tokenizer.added_tokens_decoder
    contents = [token.content for token in added.values()]
    for number, token in sorted(added.items(), reverse=True):
        takes = token.lstrip or token.rstrip or token.normalized or token.single_word
        within = any(token.content in other for other in contents if other != token.content)
        if token.special and not takes and not within:
            return token.content, number
    return None
