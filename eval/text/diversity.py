"""Diversity of generated texts: how many different things are said, and what is said again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.text.words import chinese, words
from pipeline.core.errors import DataError

# Of self-BLEU: each text is measured against all others, so the work grows with the square.
SAMPLE = 50
_LONGEST_UNIT = 40
_REPEATED_N = 4
# A unit that stands three times in a row over ten words or more is no figure of speech.
_TIMES, _LOOP_WORDS = 3, 10


@dataclass(frozen=True)
class Loop:
    """Words that stand again and again in a row.

    Attributes:
        words: from the first to the last that belongs to it; 0 where nothing is repeated.
        unit: words of what is repeated.
    """

    words: int = 0
    unit: int = 0

    @property
    def times(self) -> float:
        """How often the unit stands there; the last may be cut off."""
        return self.words / self.unit if self.unit else 0.0

    @property
    def stuck(self) -> bool:
        """Whether a reader would say that the model got stuck."""
        return self.times >= _TIMES and self.words >= _LOOP_WORDS


def diversity(
    texts: Sequence[str], references: Sequence[str] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Every measure of a set of texts; the references' own figures stand beside them.

    Returns:
        ``texts``; ``distinct`` (n to share), ``self_bleu`` (0 to 1, with ``sample``, ``seed``
        and ``signature``; None for fewer than two texts with words), ``repeated`` (mean share of
        repeated 4-grams within a text), ``longest_loop`` (``words``, ``unit``, ``times``),
        ``stuck`` (share of texts with a loop of three times and ten words or more), ``length``
        (words: ``mean``, ``p5``, ``p50``, ``p95``, ``longest``; ``empty``: share of texts
        without words); ``references``: the same of them, or None.

    Raises:
        DataError: no texts.
    """
    if not texts:
        raise DataError("diversity: there are no texts; generate at least one")
    cut = [words(text) for text in texts]
    loops = [longest_loop(one) for one in cut]
    longest = max(loops, key=lambda loop: loop.words)
    return {
        "texts": len(texts),
        "distinct": {str(n): distinct(cut, n) for n in (1, 2, 3)},
        "self_bleu": self_bleu(texts, seed=seed),
        "repeated": float(np.mean([repeated(one, _REPEATED_N) for one in cut])),
        "longest_loop": {
            "words": longest.words,
            "unit": longest.unit,
            "times": round(longest.times, 1),
        },
        "stuck": float(np.mean([loop.stuck for loop in loops])),
        "length": lengths(cut),
        "references": diversity(references, seed=seed) if references else None,
    }


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """Different n-grams of all texts over all of their n-grams (Li et al. 2016); 0 without any."""
    grams = Counter(gram for text in texts for gram in _grams(text, n))
    total = sum(grams.values())
    return len(grams) / total if total else 0.0


def repeated(text: Sequence[str], n: int) -> float:
    """Share of a text's n-grams that stood in it before (seq-rep-n; Welleck et al. 2020)."""
    grams = _grams(text, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def longest_loop(text: Sequence[str]) -> Loop:
    """The longest stretch in which a unit of at most 40 words stands twice or more in a row."""
    numbers: dict[str, int] = {}
    ids_T = np.array([numbers.setdefault(word, len(numbers)) for word in text], dtype=np.int64)
    best = Loop()
    for unit in range(1, min(_LONGEST_UNIT, len(text) // 2) + 1):
        same = ids_T[unit:] == ids_T[:-unit]
        # Runs of agreement: where they begin and end.
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]])))
        run = int((edges[1::2] - edges[::2]).max(initial=0))
        if run >= unit and run + unit > best.words:
            best = Loop(run + unit, unit)
    return best


def self_bleu(
    texts: Sequence[str], *, seed: int = 0, sample: int = SAMPLE
) -> dict[str, Any] | None:
    """Mean BLEU of a text against all others (Zhu et al. 2018), by sacrebleu; 1: all the same.

    Args:
        seed: draws the sample.
        sample: texts that are drawn; both are told.
    """
    from sacrebleu.metrics.bleu import BLEU

    spoken = [text for text in texts if text.strip()]
    if len(spoken) < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(spoken))[:sample]
    drawn = [spoken[index] for index in sorted(order)]
    metric = BLEU(tokenize="zh" if chinese(drawn) else "13a", effective_order=True)
    scores = [
        metric.sentence_score(text, drawn[:place] + drawn[place + 1 :]).score / 100
        for place, text in enumerate(drawn)
    ]
    return {
        "estimate": float(np.mean(scores)),
        "sample": len(drawn),
        "seed": seed,
        "signature": str(metric.get_signature()),
    }


def lengths(texts: Sequence[Sequence[str]]) -> dict[str, float]:
    """How long the texts are, in words."""
    counts = np.array([len(text) for text in texts])
    low, middle, high = np.quantile(counts, [0.05, 0.5, 0.95])
    return {
        "mean": float(counts.mean()),
        "p5": float(low),
        "p50": float(middle),
        "p95": float(high),
        "longest": int(counts.max()),
        "empty": float((counts == 0).mean()),
    }


def _grams(text: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(text[start : start + n]) for start in range(len(text) - n + 1)]
