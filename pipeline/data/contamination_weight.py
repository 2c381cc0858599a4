"""Whether a text weighs enough for its standing inside another one to say something."""

from __future__ import annotations

import re

import numpy as np

from pipeline.data.contamination_text import Ints, Mask, Tokens, batch_of, folded, tokens_in

LEAST_WEIGHT, LEAST_LETTERS, WORD_WEIGHT = 8, 16, 2
# Most texts show it in their first words: numpy would cost a hundred times as much.
_BEGINNING = 200
_WORD = re.compile(r"[A-Za-z]+")


def heavy(tokens: Tokens) -> Ints:
    """1 for each text that weighs enough for its standing in a longer one to say something."""
    texts = len(tokens.starts) - 1
    text = np.repeat(np.arange(texts), np.diff(tokens.starts))
    singles = np.bincount(text[tokens.single], minlength=texts)
    words = np.bincount(text, minlength=texts) - singles
    letters = np.bincount(text, weights=tokens.lengths, minlength=texts)
    found: Mask = WORD_WEIGHT * words + singles >= LEAST_WEIGHT
    # A single character says as much as two letters do.
    found &= letters + singles >= LEAST_LETTERS
    return found.astype(np.int64)


def weighs(text: str) -> bool:
    """The same of one text."""
    start = text[:_BEGINNING]
    if start.isascii() and "_" not in start:
        words = _WORD.findall(start)
        # Letters in words of their own: digits between them could join two.
        apart = not any(map(str.isdigit, start))
        if (
            apart
            and len(words) * WORD_WEIGHT >= LEAST_WEIGHT
            and sum(map(len, words)) >= (LEAST_LETTERS)
        ):
            return True
    return bool(heavy(tokens_in(batch_of([folded(text)])))[0])
