"""TF-IDF with naive Bayes or logistic regression: the textbook pair (Ng and Jordan 2001).

Terms are words; characters where the script sets no blanks between words. What is chosen is
chosen on the validation rows, and told. The page says that temperatures are fitted there too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from eval.references.task import Item, Task, unspaced
from pipeline.core.errors import DataError

Floats = npt.NDArray[np.float64]
Name = Literal["tfidf_bayes", "tfidf_logreg"]

# N rows, L labels.
_SETTING: Mapping[Name, str] = {"tfidf_bayes": "alpha", "tfidf_logreg": "C"}
# The first is taken where there are no validation rows: scikit-learn's own default.
_GRID: Mapping[Name, tuple[float, ...]] = {
    "tfidf_bayes": (1.0, 0.3, 0.1, 0.03, 0.01),
    "tfidf_logreg": (1.0, 10.0, 100.0),
}
_WORDS, _CHARACTERS = ((1, 1), (1, 2)), ((1, 2), (1, 3))
_MOST_TERMS = 100_000
_MOST_STEPS = 1_000
# scikit-learn's own, up to the C and the rows at which it still says something: it is held against
# the mean loss's slope, and that of a large C or of many rows is small from the start.
_TOLERANCE, _UP_TO_C, _UP_TO_ROWS = 1e-4, 10.0, 10_000
_CERTAIN = 1 - 1e-12


@dataclass
class TextModel:
    """A fitted rung.

    Attributes:
        told: what was chosen, by what, and how well it did there.
    """

    labels: tuple[str, ...]
    several: bool
    _terms: Any
    _judges: Any
    told: dict[str, Any] = field(default_factory=dict)

    def log_probabilities(self, texts: Sequence[str]) -> Floats:
        """[N, L]: natural logs; over labels they sum to 1, of several each has its own."""
        features = self._terms.transform(texts)
        if self.several:
            return np.column_stack([judge.log_positive(features) for judge in self._judges])
        return _log_probabilities(self._judges, features)


def fit_text_model(name: Name, task: Task, seed: int) -> TextModel:
    """Fits every candidate on train and keeps the one that does best on validation.

    Best: the most rows answered right as a whole, then the higher log-probability of what is
    right, then the first in the grid.

    Args:
        seed: of the solver; naive Bayes has none.

    Raises:
        DataError: nothing to learn from, one label alone, or texts without a single term.
    """
    task.require_train(name)
    seen = tuple(sorted({label for item in task.train for label in item.labels}))
    if name == "tfidf_logreg" and not task.several and len(seen) < 2:
        raise DataError(
            f"reference {name}: all rows of train have the label {seen[0]!r}, and it learns what "
            "tells two apart; add rows of another label"
        )
    texts = [item.text for item in task.train]
    characters = unspaced(texts)
    grid = _GRID[name] if task.validation else _GRID[name][:1]
    best: tuple[tuple[float, float], TextModel] | None = None
    for ngrams in _CHARACTERS if characters else _WORDS:
        terms = _terms(characters, ngrams)
        features = _fitted_terms(name, terms, texts)
        judges: Any = None
        for value in grid:
            judges = _fit(name, features, task, seen, value, seed, judges)
            model = TextModel(seen, task.several, terms, judges)
            score = _score(model, task.validation)
            model.told = {
                "terms": "characters" if characters else "words",
                "ngrams": list(ngrams),
                _SETTING[name]: value,
                "chosen_on": "validation" if task.validation else "nothing: no validation rows",
                "validation_accuracy": score[0] if task.validation else None,
            }
            if best is None or score > best[0]:
                best = (score, model)
        if not task.validation:
            break
    assert best is not None
    return best[1]


def _terms(characters: bool, ngrams: tuple[int, int]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer="char" if characters else "word",
        ngram_range=ngrams,
        sublinear_tf=True,
        max_features=_MOST_TERMS,
        dtype=np.float32,  # the solver's memory traffic is its time
    )


def _fitted_terms(name: str, terms: Any, texts: Sequence[str]) -> Any:
    try:
        return terms.fit_transform(texts)
    except ValueError:
        raise DataError(
            f"reference {name}: no text of train holds a term of two letters or more; "
            "look at the texts, or take it out of evaluate.references"
        ) from None


def _fit(
    name: Name,
    features: Any,
    task: Task,
    seen: Sequence[str],
    value: float,
    seed: int,
    before: Any,
) -> Any:
    """``before``: what the value before this one came to, from which the solver starts."""
    if not task.several:
        targets = [item.labels[0] for item in task.train]
        return _estimator(name, value, seed, features, targets, before)
    old = before or [None] * len(seen)
    return [
        _Binary.fit(name, features, [label in item.labels for item in task.train], value, seed, one)
        for label, one in zip(seen, old, strict=True)
    ]


def _estimator(
    name: Name, value: float, seed: int, features: Any, targets: Any, before: Any
) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    if name == "tfidf_bayes":
        return MultinomialNB(alpha=value).fit(features, targets)
    with warnings.catch_warnings():
        # A solver that stopped early is judged on validation like the others.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver = deepcopy(before) or LogisticRegression(
            max_iter=_MOST_STEPS, random_state=seed, warm_start=True
        )
        rows = features.shape[0]
        finer = max(1.0, value / _UP_TO_C) * max(1.0, rows / _UP_TO_ROWS)
        return solver.set_params(C=value, tol=_TOLERANCE / finer).fit(features, targets)


@dataclass(frozen=True)
class _Binary:
    """One of several labels: on or off. ``always``: what every row of train says."""

    estimator: Any
    always: bool | None
    rows: int

    @classmethod
    def fit(
        cls,
        name: Name,
        features: Any,
        on: Sequence[bool],
        value: float,
        seed: int,
        before: _Binary | None,
    ) -> _Binary:
        if len(set(on)) < 2:
            return cls(None, on[0], len(on))
        old = before and before.estimator
        return cls(_estimator(name, value, seed, features, list(on), old), None, len(on))

    def log_positive(self, features: Any) -> Floats:
        """[N]: log of the probability that the label is on."""
        if self.always is None:
            return _log_probabilities(self.estimator, features)[:, 1]
        # Laplace's rule of succession: no number of rows makes a thing certain.
        share = (self.rows + 1) / (self.rows + 2)
        return np.full(features.shape[0], np.log(share if self.always else 1 - share))


def _log_probabilities(estimator: Any, features: Any) -> Floats:
    """[N, classes]: from margins where there are some; the log of a rounded 0 is no number."""
    from scipy.special import log_expit, log_softmax

    if not hasattr(estimator, "decision_function"):
        found: Floats = estimator.predict_log_proba(features)
        return found
    margins = np.asarray(estimator.decision_function(features), dtype=np.float64)
    if margins.ndim == 1:
        return np.column_stack([log_expit(-margins), log_expit(margins)])
    whole: Floats = log_softmax(margins, axis=1)
    return whole


def _score(model: TextModel, items: Sequence[Item]) -> tuple[float, float]:
    """Share of rows that are right as a whole, and the mean log-probability of what is right."""
    if not items:
        return 0.0, 0.0
    logs = model.log_probabilities([item.text for item in items])
    place = {label: index for index, label in enumerate(model.labels)}
    right, told = 0, 0.0
    for row, item in zip(logs, items, strict=True):
        gold = {place[label] for label in item.labels if label in place}
        if model.several:
            right += set(np.flatnonzero(row >= np.log(0.5)).tolist()) == gold
            other = [index for index in range(len(row)) if index not in gold]
            told += float(
                row[sorted(gold)].sum() + np.log1p(-np.minimum(np.exp(row[other]), _CERTAIN)).sum()
            )
        elif gold:
            right += int(row.argmax()) in gold
            told += float(row[min(gold)])
    return right / len(items), told / len(items)
