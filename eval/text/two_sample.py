"""Can real and generated texts be told apart? A classifier two-sample test.

Lopez-Paz and Oquab (Revisiting Classifier Two-Sample Tests, 2017): a classifier is fitted to
half of the texts, and its accuracy on the other half is 0.5 where both come from the same source.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.auroc import beats
from eval.clusters import summed
from eval.statistics import Interval, covers_of, mean_interval
from eval.tasks import told
from eval.text.words import words

Floats = npt.NDArray[np.float64]
FEWEST = 20
_TELLING = 8
_SEEN_TWICE = 2
WHAT = "logistic regression on TF-IDF of words and word pairs; 0.5: cannot be told apart"


def two_sample(
    real: Sequence[str],
    generated: Sequence[str],
    *,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> dict[str, Any]:
    """The test on texts of the same items: real[i] and generated[i] answer the same question.

    Items are halved, not texts: else the classifier would know a held-out text's question. Where
    items share a document, documents are.

    Args:
        clusters: of each item, where items share a document.

    Returns:
        ``accuracy`` and ``auroc`` (held out, each with its interval), ``fitted`` and ``held_out``
        (texts), ``seed``, ``what``, and the words that give each side away; or ``why`` alone,
        where there are too few items or no words.
    """
    items = len(real)
    if items != len(generated) or items < FEWEST:
        return {"why": f"{items} items; {FEWEST} are needed"}
    fitted, held = _halves(items, clusters, seed)
    if not held:
        return {"why": "too many items share one document for two halves without it in both"}
    mine = None if clusters is None else [clusters[index] for index in held]
    both = None if mine is None else [*mine, *mine]
    scores, telling = _scores(real, generated, fitted, held)
    if scores is None:
        return {"why": "the texts hold no word twice"}
    truth = np.repeat([0, 1], len(held))
    # A score of exactly 0 says neither: as often right as wrong, it counts for one side only.
    right = (scores > 0) == truth.astype(bool)
    return {
        "accuracy": told(mean_interval([right.astype(float)], both)),
        "auroc": told(auroc(scores[len(held) :], scores[: len(held)], mine)),
        "fitted": 2 * len(fitted),
        "held_out": 2 * len(held),
        "seed": seed,
        "what": WHAT,
        "telling": telling,
    }


def _halves(
    items: int, clusters: Sequence[Hashable] | None, seed: int
) -> tuple[list[int], list[int]]:
    """Items that are fitted and items that are held out; those of one cluster on one side."""
    names = list(range(items)) if clusters is None else clusters
    known = list(dict.fromkeys(names))
    order = np.random.default_rng(seed).permutation(len(known))
    rank = {known[index]: place for place, index in enumerate(order.tolist())}
    ranked = sorted(range(items), key=lambda item: rank[names[item]])
    cut = items // 2
    while cut < items and names[ranked[cut]] == names[ranked[cut - 1]]:
        cut += 1
    return ranked[:cut], ranked[cut:]


def _scores(
    real: Sequence[str], generated: Sequence[str], fitted: Any, held: Any
) -> tuple[Floats | None, dict[str, list[str]]]:
    """Log-odds of `generated` for held-out real texts, then generated ones; and telling words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(
        tokenizer=words, token_pattern=None, lowercase=False, ngram_range=(1, 2),
        sublinear_tf=True, min_df=_SEEN_TWICE,
    )  # fmt: skip
    texts = [real[i] for i in fitted] + [generated[i] for i in fitted]
    try:
        known = vectors.fit_transform(texts)
    except ValueError:  # scikit-learn's word for an empty vocabulary.
        return None, {}
    model = LogisticRegression(C=10.0, max_iter=1000)
    model.fit(known, np.repeat([0, 1], len(fitted)))
    asked = [real[i] for i in held] + [generated[i] for i in held]
    names, weights = vectors.get_feature_names_out(), model.coef_[0]
    ranked = np.argsort(weights, kind="stable")
    telling = {
        "real": [str(names[i]) for i in ranked[:_TELLING] if weights[i] < 0],
        "generated": [str(names[i]) for i in ranked[::-1][:_TELLING] if weights[i] > 0],
    }
    return np.asarray(model.decision_function(vectors.transform(asked)), dtype=float), telling


def auroc(
    positive: Floats, negative: Floats, clusters: Sequence[Hashable] | None = None
) -> Interval:
    """Area under the ROC curve and DeLong's interval (DeLong et al. 1988), for these weights.

    Of items that share something, Obuchowski's (1997): what they bring to either side is summed
    within their cluster.

    One more text of each side, got wrong, stands in the interval alone, so that a faultless
    half does not claim certainty.

    Args:
        clusters: of positive[i] and negative[i] alike; there are as many of both then.
    """
    estimate, _ = _area(positive, negative)
    low_end, high_end = min(positive.min(), negative.min()), max(positive.max(), negative.max())
    added = None if clusters is None else [*clusters, object()]
    centre, error = _area(
        np.append(positive, low_end - 1), np.append(negative, high_end + 1), added
    )
    half = 1.959964 * error
    low, high = max(0.0, min(estimate, centre - half)), min(1.0, max(estimate, centre + half))
    return Interval(estimate, low, high, covers=covers_of(1, clusters))


def _area(
    positive: Floats, negative: Floats, clusters: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """The area and its standard error, from ranks: m positive and n negative scores."""
    m = len(positive)
    beats_m, beaten_n = beats(positive, negative), 1 - beats(negative, positive)
    if clusters is not None:
        area = float(beats_m.mean())
        off_C = summed((beats_m + beaten_n - 2 * area)[:, None], clusters)[:, 0] / m
        units = len(off_C)
        return area, math.sqrt(float((off_C**2).sum()) * units / max(units - 1, 1))
    variance = sum(
        float(part.var(ddof=1)) / len(part) for part in (beats_m, beaten_n) if len(part) > 1
    )
    return float(beats_m.mean()), math.sqrt(variance)
