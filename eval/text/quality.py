"""Quality of generated texts against references: kept libraries where the field has one.

Items are drawn again for every interval, which speaks for these weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from eval.answers import final_answer, normalised_answer
from eval.clusters import ratio, summed
from eval.jackknife import share_interval
from eval.statistics import Interval, covers_of, mean_interval, plain
from eval.tasks import told
from eval.text.numbers import same_number
from eval.text.words import chinese, latin, words
from pipeline.core.errors import DataError

_ROUGE = ("rouge1", "rouge2", "rougeL")
_DRAWS = 1000
NUMBERS_RULE = (
    "one number in the answer; scale words, percent and sign as in the reference; off by at most "
    "half a unit of the reference's last decimal place"
)


def quality(
    answers: Sequence[str],
    references: Sequence[str],
    *,
    after: str | None = None,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> dict[str, Any]:
    """Every measure of answers against one reference each.

    Args:
        answers: texts as they were written.
        references: in the same order.
        after: see ``eval.answers.final_answer``; for both, and for exact match, token F1 and
            numbers only: ROUGE, chrF and BLEU compare whole texts.
        seed: of the draws of items for chrF and BLEU.
        clusters: of each item, where items share a document: it is drawn as one.

    Returns:
        ``items``; ``language`` (``zh`` or ``other``, by the references); ``exact_match``,
        ``token_f1``, ``numeric`` (of the references that are one number: with ``items`` and
        ``rule``; None without such), ``rouge1``, ``rouge2``, ``rougeL`` (F measures), ``chrf``
        and ``bleu`` (0 to 100, with sacrebleu's ``signature``): each ``estimate``, ``low``,
        ``high`` and ``covers``.

    Raises:
        DataError: no texts, or not one reference for each.
    """
    if not answers or len(answers) != len(references):
        raise DataError(
            f"quality: {len(answers)} texts stand against {len(references)} references; "
            "give one reference for each text, and at least one"
        )
    finals = [final_answer(answer, after) for answer in answers]
    golds = [final_answer(reference, after) for reference in references]
    pairs = list(zip(finals, golds, strict=True))
    right = [float(normalised_answer(a) == normalised_answer(b)) for a, b in pairs]
    zh = chinese(references)
    scores = rouge(answers, references)
    found = {
        "items": len(answers),
        "language": "zh" if zh else "other",
        "exact_match": told(mean_interval([right], clusters)),
        "token_f1": told(_mean([token_f1(a, b) for a, b in pairs], clusters)),
        "numeric": numeric(finals, golds, clusters),
        **{name: told(_mean(scores[name], clusters)) for name in _ROUGE},
    }
    for name, corpus in (("chrf", chrf), ("bleu", bleu)):
        interval, signature = corpus(answers, references, seed, clusters)
        found[name] = {**told(interval), "signature": signature}
    return found


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of words, as SQuAD counts them (2016, section 6.1).

    Chinese by characters. No words on either side: 1 where neither has any, else 0.
    """
    ours, theirs = _answer_words(answer), _answer_words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    same = sum((Counter(ours) & Counter(theirs)).values())
    if not same:
        return 0.0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


def numeric(
    answers: Sequence[str],
    references: Sequence[str],
    clusters: Sequence[Hashable] | None = None,
) -> dict[str, Any] | None:
    """Share of right numbers among the items whose reference is one; None without any."""
    judged = [same_number(a, b) for a, b in zip(answers, references, strict=True)]
    places = [place for place, verdict in enumerate(judged) if verdict is not None]
    if not places:
        return None
    right = [float(bool(judged[place])) for place in places]
    mine = None if clusters is None else [clusters[place] for place in places]
    return {"items": len(right), "rule": NUMBERS_RULE, **told(mean_interval([right], mine))}


def rouge(answers: Sequence[str], references: Sequence[str]) -> Mapping[str, list[float]]:
    """F measures of ROUGE-1, -2 and -L of each item (Lin 2004), by rouge-score.

    Its own words (a to z and digits) for Latin text; any other script by ``eval.text.words``,
    Chinese by characters: its own would drop every letter of it.
    """
    from rouge_score.rouge_scorer import RougeScorer

    own = latin(references)
    scorer = RougeScorer(list(_ROUGE), tokenizer=None if own else _Words())
    pairs = zip(answers, references, strict=True)
    scored = [scorer.score(reference, answer) for answer, reference in pairs]
    return {name: [float(one[name].fmeasure) for one in scored] for name in _ROUGE}


def chrf(
    answers: Sequence[str],
    references: Sequence[str],
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> tuple[Interval, str]:
    """chrF2 of the whole set (Popovic 2015) and sacrebleu's signature."""
    from sacrebleu.metrics.chrf import CHRF

    return _corpus(CHRF(), answers, references, seed, clusters)


def bleu(
    answers: Sequence[str],
    references: Sequence[str],
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> tuple[Interval, str]:
    """BLEU of the whole set (Papineni et al. 2002; Post 2018) and sacrebleu's signature.

    Chinese references are cut by sacrebleu's ``zh``, others by its default ``13a``.
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize="zh" if chinese(references) else "13a", force=True)
    return _corpus(metric, answers, references, seed, clusters)


def _corpus(
    metric: Any,
    answers: Sequence[str],
    references: Sequence[str],
    seed: int,
    clusters: Sequence[Hashable] | None,
) -> tuple[Interval, str]:
    # sacrebleu's own bootstrap breaks on a draw without a match, so its counts are drawn here.
    counts_NK = np.array(metric._extract_corpus_statistics(list(answers), [list(references)]))

    def score(sums_K: Any) -> float:
        return float(metric._compute_score_from_stats([int(count) for count in sums_K]).score)

    value, signature = score(counts_NK.sum(axis=0)), str(metric.get_signature())
    counts_CK = summed(counts_NK.astype(float), clusters)
    units = len(counts_CK)
    if units < 2:
        return plain(value), signature
    rng = np.random.default_rng(seed)
    drawn_BC = rng.multinomial(units, np.full(units, 1 / units), size=_DRAWS)
    score_B = [score(sums_K) for sums_K in drawn_BC @ counts_CK]
    low, high = np.quantile(score_B, [0.025, 0.975])
    ends = min(float(low), value), max(float(high), value)
    return Interval(value, *ends, covers=covers_of(1, clusters)), signature


def _mean(scores: Sequence[float], clusters: Sequence[Hashable] | None) -> Interval:
    moment_1N2 = np.stack([np.array(scores), np.ones(len(scores))], axis=1)[None]
    return share_interval(moment_1N2, ratio, clusters)


def _answer_words(text: str) -> list[str]:
    folded = normalised_answer(text)
    return words(folded, marks=True) if chinese([folded]) else folded.split()


class _Words:
    """What rouge-score asks of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        """Words without punctuation."""
        return words(text, marks=False)
