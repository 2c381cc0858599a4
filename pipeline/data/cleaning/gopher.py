"""Gopher's quality and repetition heuristics.

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training
Gopher", appendix A.1.1: "Quality Filtering" and, with Table A1, "Repetition Removal".

They are for documents only, as they were made for. Messages and rows with a label are short by
nature and may be one list or one line: even Table A1 alone, from fifty words on, dropped 1 % of
good English answers, 7 % of Chinese ones and 15 % of long preference rows.

In Chinese and Japanese a character counts as a word; the mean word length has no meaning there,
and an n-gram of words is one of 2n characters (ours: a running Chinese word has about two). Stop
words are asked of English only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from pipeline.data.cleaning.words import by_characters, words

# Quality Filtering.
FEWEST_WORDS, MOST_WORDS = 50, 100_000
SHORTEST_MEAN, LONGEST_MEAN = 3, 10
MOST_SYMBOLS_PER_WORD = 0.1
MOST_BULLET_LINES = 0.9
MOST_ELLIPSIS_LINES = 0.3
FEWEST_ALPHABETIC = 0.8
STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
FEWEST_STOP_WORDS = 2
# Repetition Removal, Table A1.
MOST_DUPLICATE_LINES = MOST_DUPLICATE_PARAGRAPHS = 0.30
MOST_DUPLICATE_LINE_CHARACTERS = MOST_DUPLICATE_PARAGRAPH_CHARACTERS = 0.20
MOST_TOP_GRAM = {2: 0.20, 3: 0.18, 4: 0.16}
MOST_DUPLICATE_GRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
_BULLETS = ("•", "‣", "▪", "◦", "●", "* ", "- ")
_ELLIPSES = ("...", "…")


def refuse_document(text: str) -> str | None:
    """Why a document is of low quality: ``mean word length 1.9``; None where it is not."""
    found = words(text)
    if not FEWEST_WORDS <= len(found) <= MOST_WORDS:
        return f"{len(found)} words"
    return (
        _word_shapes(text, found)
        or _lines(text)
        or _duplicate_lines(text)
        or _repeated_grams(found)
        or _stop_words(text, found)
    )


def _word_shapes(text: str, found: list[str]) -> str | None:
    mean = sum(map(len, found)) / len(found)
    if not by_characters(found) and not SHORTEST_MEAN <= mean <= LONGEST_MEAN:
        return f"mean word length {mean:.1f}"
    hashes = text.count("#") / len(found)
    ellipses = sum(map(text.count, _ELLIPSES)) / len(found)
    for name, share in (("#", hashes), ("ellipsis", ellipses)):
        if share > MOST_SYMBOLS_PER_WORD:
            return f"{share:.2f} {name} per word"
    alphabetic = sum(any(map(str.isalpha, word)) for word in found) / len(found)
    return f"{alphabetic:.2f} of words alphabetic" if alphabetic < FEWEST_ALPHABETIC else None


def _lines(text: str) -> str | None:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    bullets = sum(line.startswith(_BULLETS) for line in lines) / len(lines)
    if bullets > MOST_BULLET_LINES:
        return f"{bullets:.2f} of lines are bullets"
    ellipses = sum(line.endswith(_ELLIPSES) for line in lines) / len(lines)
    return f"{ellipses:.2f} of lines end in an ellipsis" if ellipses > MOST_ELLIPSIS_LINES else None


def _duplicate_lines(text: str) -> str | None:
    for name, parts, most, most_characters in (
        ("line", text.split("\n"), MOST_DUPLICATE_LINES, MOST_DUPLICATE_LINE_CHARACTERS),
        (
            "paragraph",
            re.split(r"\n\s*\n", text),
            MOST_DUPLICATE_PARAGRAPHS,
            MOST_DUPLICATE_PARAGRAPH_CHARACTERS,
        ),
    ):
        kept = [part.strip() for part in parts if part.strip()]
        count = sum(times - 1 for times in Counter(kept).values()) / len(kept)
        if count > most:
            return f"duplicate {name} fraction {count:.2f}"
        repeated = sum((times - 1) * len(part) for part, times in Counter(kept).items())
        share = repeated / sum(map(len, kept))
        if share > most_characters:
            return f"duplicate {name} character fraction {share:.2f}"
    return None


def _repeated_grams(found: list[str]) -> str | None:
    lengths = list(map(len, found))
    total = sum(lengths)
    characters = 2 if by_characters(found) else 1
    for n, most in MOST_TOP_GRAM.items():
        gram, times = Counter(_grams(found, n * characters)).most_common(1)[0]
        share = sum(map(len, gram)) * times / total
        # Once is no repetition, however short the text.
        if times > 1 and share > most:
            return f"top {n}-gram fraction {share:.2f}"
    for n, most in MOST_DUPLICATE_GRAMS.items():
        share = _duplicated(found, lengths, n * characters) / total
        if share > most:
            return f"duplicate {n}-gram fraction {share:.2f}"
    return None


def _grams(found: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(found[start:] for start in range(n)), strict=False))


def _duplicated(found: list[str], lengths: list[int], n: int) -> int:
    """Characters in n-grams that stood before, each counted once though they overlap."""
    seen: set[tuple[str, ...]] = set()
    repeated, free = 0, 0
    for start, gram in enumerate(_grams(found, n)):
        if gram in seen:
            repeated += sum(lengths[max(start, free) : start + n])
            free = start + n
        else:
            seen.add(gram)
    return repeated


def _stop_words(text: str, found: list[str]) -> str | None:
    from pipeline.data.cleaning.language import is_english

    plain = chain.from_iterable(re.findall("[a-z]+", word.lower()) for word in found)
    count = sum(1 for word in plain if word in STOP_WORDS)
    if count >= FEWEST_STOP_WORDS or not is_english(text):
        return None
    return f"{count} of Gopher's English stop words"
