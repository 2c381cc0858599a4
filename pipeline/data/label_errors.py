"""Rows whose label is probably wrong: confident learning over a cheap model.

A logistic regression over TF-IDF predicts every row from rows it was not trained on; cleanlab
compares that with the labels given (Northcutt, Jiang, Chuang 2021, "Confident Learning").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Scripts written without spaces give characters, all others words; each with its pairs.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
TERM = rf"(?u)[{_UNSPACED}]|[^\W{_UNSPACED}]+"
MOST_TERMS = 50_000
# From here on a term must stand in two rows: one seen once teaches nothing about another row.
MANY_ROWS = 1_000

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelError:
    """A row whose label is probably wrong.

    Attributes:
        index: The row.
        given: Its label.
        suggested: The label that the model finds most probable.
        confidence: The model's probability of ``suggested``, 0 to 1.
    """

    index: int
    given: str
    suggested: str
    confidence: float


def labels_not_judged(labels: Sequence[str]) -> list[str]:
    """Labels that one row alone carries: no model can learn them from other rows."""
    return sorted(label for label, count in Counter(labels).items() if count == 1)


def probable_label_errors(
    texts: Sequence[str], labels: Sequence[str], *, folds: int = 5, seed: int = 0
) -> list[LabelError]:
    """Lists rows whose label is probably wrong, the least probable label first.

    Rows of ``labels_not_judged`` are left out. A class with fewer rows than folds is spread over
    as many folds as it has rows, so that every model has seen every class.

    Args:
        texts: N texts.
        labels: N labels, one each.
        folds: Models to train, at least 2.
        seed: Of the folds.
    """
    lonely = set(labels_not_judged(labels))
    rows = np.array([row for row, label in enumerate(labels) if label not in lonely], np.int64)
    names = sorted({labels[row] for row in rows.tolist()})
    if len(names) < 2:
        return []
    number = {name: place for place, name in enumerate(names)}
    given = np.array([number[labels[row]] for row in rows.tolist()], np.int64)
    features = _features([texts[row] for row in rows.tolist()])
    if features is None:
        return []
    probabilities = _out_of_fold(features, given, folds_of(given, folds, seed), len(names))
    return [
        LabelError(
            index=int(rows[place]),
            given=names[given[place]],
            suggested=names[int(probabilities[place].argmax())],
            confidence=float(probabilities[place].max()),
        )
        for place in _suspects(given, probabilities)
    ]


def folds_of(classes: Indices, folds: int, seed: int) -> Indices:
    """int64[N]: a fold for each row; the rows of a class are dealt out one by one.

    scikit-learn's StratifiedKFold warns of classes smaller than the number of folds.
    """
    rng = np.random.default_rng(seed)
    found = np.empty(len(classes), np.int64)
    for name in range(int(classes.max()) + 1):
        rows = rng.permutation(np.flatnonzero(classes == name))
        # A random start, or all small classes would meet in the first folds.
        found[rows] = (np.arange(len(rows)) + rng.integers(folds)) % folds
    return found


def _features(texts: Sequence[str]) -> Any:
    """A sparse matrix [N, terms], or None where there is no term to learn from."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        token_pattern=TERM,
        ngram_range=(1, 2),
        sublinear_tf=True,
        min_df=2 if len(texts) >= MANY_ROWS else 1,
        max_features=MOST_TERMS,
        dtype=np.float64,
    )
    try:
        return vectorizer.fit_transform(texts)
    except ValueError:
        # Its only way to say that no term is left: texts of symbols, or nothing in common.
        return None


def _out_of_fold(features: Any, classes: Indices, folds: Indices, count: int) -> Floats:
    """float64[N, classes]: each row's probabilities by the model that did not see it."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    found = np.zeros((len(classes), count))
    for fold in np.unique(folds):
        judged = folds == fold
        model = LogisticRegression(C=10.0, max_iter=1_000, tol=1e-3)
        # Threads of BLAS only wait for each other here, and would change the last digits.
        with threadpool_limits(1):
            model.fit(features[~judged], classes[~judged])
            found[judged] = model.predict_proba(features[judged])
    return np.round(found, 6)


def _suspects(given: Indices, probabilities: Floats) -> list[int]:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    suspect = find_label_issues(given, probabilities, filter_by="both", n_jobs=1)
    quality = get_label_quality_scores(given, probabilities)
    places = np.flatnonzero(suspect)
    return [int(place) for place in places[np.argsort(quality[places], kind="stable")]]
