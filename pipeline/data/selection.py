"""Second pass of `prepare`: what becomes of each row of a shelf, decided over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.data.balance import Balance, balance
from pipeline.data.funnel import REASONS
from pipeline.data.label_errors import probable_label_errors
from pipeline.data.near_duplicates import keep_first, label_conflicts, near_duplicate_pairs
from pipeline.data.shelf import NO_LABEL, Shelf
from pipeline.data.strata import single_labels, strata

Array = np.ndarray[Any, Any]
KEPT, VALIDATION, TEST = 0, 1, 2
_FIRST_REASON = 10
CODES = {reason: _FIRST_REASON + i for i, reason in enumerate(REASONS)}
REASON_OF = {code: reason for reason, code in CODES.items()}


@dataclass
class Verdicts:
    """What was decided over a shelf.

    Attributes:
        code: [N] KEPT, VALIDATION, TEST or one of CODES.
        twin: [N] the row of which it is a copy, or -1.
        because: row to the words for which it was dropped (few).
        details: what was counted without a row being lost.
        findings: kind to entries for ``findings.jsonl``: conflicts of label, probable errors.
        weights: label to weight, where classes are weighted.
        relabelled: row to the wrong label that it was given on purpose.
    """

    code: Array
    twin: Array = field(init=False)
    because: dict[int, str] = field(default_factory=dict)
    details: dict[str, int] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    relabelled: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.twin = np.full(len(self.code), -1, np.int64)

    @property
    def live(self) -> Array:
        """Indices of rows that nothing has dropped yet."""
        return np.flatnonzero(self.code == KEPT)

    def drop(self, rows: Array, reason: str) -> None:
        """Gives rows a reason."""
        self.code[rows] = CODES[reason]


def take_fractions(
    shelf: Shelf,
    verdicts: Verdicts,
    sources: Sequence[Mapping[str, Any]],
    *,
    joined: bool = False,
) -> None:
    """Takes each source's ``fraction``.

    Args:
        joined: the shelf's labels are several each, joined.
    """
    for number, source in enumerate(sources):
        rows = np.flatnonzero(shelf.source == number)
        if source.get("fraction") is not None:
            label = strata(shelf, rows)[0] if joined else shelf.label[rows]
            kept = seeded_share(label, float(source["fraction"]), int(source["seed"]))
            verdicts.drop(rows[~kept], "sampled out")


def mix(shelf: Shelf, verdicts: Verdicts, sources: Sequence[Mapping[str, Any]]) -> None:
    """Brings sources into the ratio of their ``weight``s; no row is repeated.

    Raises:
        DataError: a source with a weight has no rows left: no ratio could hold.
    """
    weights = {n: float(s["weight"]) for n, s in enumerate(sources) if s.get("weight") is not None}
    have = {n: int((shelf.source[verdicts.live] == n).sum()) for n in weights}
    if not weights:
        return
    empty = next((number for number, rows in have.items() if not rows), None)
    if empty is not None:
        raise DataError(
            f"data.train.{empty}: has no rows left to be mixed by weight; see dropped.jsonl, or "
            "take the source or its weight out"
        )
    unit = min(have[n] / weight for n, weight in weights.items())
    for number, weight in weights.items():
        rows = verdicts.live[shelf.source[verdicts.live] == number]
        rng = np.random.default_rng([int(sources[number]["seed"]), number])
        taken = rng.permutation(len(rows))[: max(1, round(unit * weight))]
        verdicts.drop(np.delete(rows, taken), "sampled out")


def seeded_share(label: Array, fraction: float, seed: int) -> Array:
    """[N] whether a row is of a seeded share, stratified by label, at least one of each.

    Of one seed a larger share holds every smaller one.
    """
    kept = np.zeros(len(label), bool)
    for value in np.unique(label):
        members = np.flatnonzero(label == value)
        np.random.default_rng([seed, int(value) + 1]).shuffle(members)
        kept[members[: max(1, round(fraction * len(members)))]] = True
    return kept


def exact_duplicates(shelf: Shelf, verdicts: Verdicts, action: str) -> None:
    """Rows whose whole content stands before them; the same text with two labels is told."""
    live = verdicts.live
    _, first, code = np.unique(shelf.row_hash[live], return_index=True, return_inverse=True)
    again = np.flatnonzero(first[code] != np.arange(len(live)))
    verdicts.details["exact duplicates"] = len(again)
    _conflicts_of_equal_texts(shelf, verdicts, live)
    if action == "drop":
        verdicts.twin[live[again]] = live[first[code[again]]]
        verdicts.drop(live[again], "duplicate")


def _conflicts_of_equal_texts(shelf: Shelf, verdicts: Verdicts, live: Array) -> None:
    labelled = live[shelf.label[live] != NO_LABEL]
    _, first, code = np.unique(shelf.text_hash[labelled], return_index=True, return_inverse=True)
    other = np.flatnonzero(shelf.label[labelled] != shelf.label[labelled[first]][code])
    for index in other:
        _conflict(shelf, verdicts, int(labelled[first[code[index]]]), int(labelled[index]), 1.0)


def _conflict(shelf: Shelf, verdicts: Verdicts, left: int, right: int, jaccard: float) -> None:
    verdicts.details["label conflicts"] = verdicts.details.get("label conflicts", 0) + 1
    verdicts.findings.append({
        "kind": "label conflict",
        "rows": shelf.names([left, right]),
        "labels": [shelf.label_of(left), shelf.label_of(right)],
        "jaccard": round(jaccard, 4),
        "indices": [left, right],
    })  # fmt: skip


def near_duplicates(
    shelf: Shelf, verdicts: Verdicts, group: Array, settings: Mapping[str, Any], workers: int
) -> Array:
    """Near copies of an earlier row; returns a group for each row, so that a split keeps them.

    Args:
        group: [N] rows of one value stay together, copies or not.

    Returns:
        [N] group of each row: the row itself, or the earlier row that it is a copy of.
    """
    live = verdicts.live
    texts = shelf.compared_texts()
    texts = texts.take(live) if len(live) < len(shelf) else texts
    pairs = near_duplicate_pairs(
        texts, threshold=settings["threshold"], seed=settings["seed"], workers=workers
    )
    verdicts.details["near-duplicate pairs"] = len(pairs.left)
    labels = [shelf.label_of(int(i)) for i in live] if (shelf.label >= 0).any() else []
    known = {(f["indices"][0], f["indices"][1]) for f in verdicts.findings}
    for left, right, jaccard in label_conflicts(pairs, labels) if labels else ():
        if (int(live[left]), int(live[right])) not in known:
            _conflict(shelf, verdicts, int(live[left]), int(live[right]), jaccard)
    together = [(live[pairs.left], live[pairs.right])]
    for same in (shelf.text_hash, group):
        _, first, code = np.unique(same, return_index=True, return_inverse=True)
        together.append((first[code], np.arange(len(shelf))))
    clusters = _clusters(len(shelf), *map(np.concatenate, zip(*together, strict=True)))
    if settings["action"] == "drop":
        kept = keep_first(len(live), pairs)
        of = np.flatnonzero(kept[pairs.left] & ~kept[pairs.right])[::-1]
        # Backwards, so that the first pair of a row is the one that stays.
        verdicts.twin[live[pairs.right[of]]] = live[pairs.left[of]]
        verdicts.drop(live[~kept], "near-duplicate")
    return clusters


def _clusters(count: int, left: Array, right: Array) -> Array:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    return np.asarray(connected_components(edges, directed=False)[1])


def label_errors(shelf: Shelf, verdicts: Verdicts, settings: Mapping[str, Any]) -> None:
    """Rows whose label a cheap model, trained on the other rows, does not believe."""
    live = verdicts.live[shelf.label[verdicts.live] != NO_LABEL]
    if len(live) == 0:
        return
    found = probable_label_errors(
        shelf.texts().take(live).to_pylist(),
        [str(shelf.label_of(int(i))) for i in live],
        folds=settings["folds"],
        seed=settings["seed"],
    )
    verdicts.details["probable label errors"] = len(found)
    for error in found:
        row = int(live[error.index])
        verdicts.findings.append({
            "kind": "probable label error", "rows": shelf.names([row]),
            "labels": [error.given, error.suggested], "confidence": round(error.confidence, 4),
            "indices": [row],
        })  # fmt: skip
        if settings["action"] == "drop":
            verdicts.because[row] = f"{error.given} is probably {error.suggested}"
    if settings["action"] == "drop":
        verdicts.drop(live[[error.index for error in found]], "label error")


def class_balance(
    shelf: Shelf, verdicts: Verdicts, settings: Mapping[str, Any], *, joined: bool = False
) -> dict[str, Any]:
    """Tells the sizes of classes; caps or weights them where asked.

    Args:
        joined: the shelf's labels are several each: each is told, a cap takes combinations.

    Raises:
        DataError: weights for rows with several labels.
    """
    live = verdicts.live[shelf.label[verdicts.live] != NO_LABEL]
    if len(live) == 0:
        return {}
    if joined and settings["action"] == "weights":
        raise DataError(
            "data.clean.balance: weights are for rows with one label, and rows of data.train have "
            "several; take report or cap"
        )
    if joined and settings["action"] == "report":
        return _told(balance(list(single_labels(shelf, live).elements())))
    made = balance([str(shelf.label_of(int(i))) for i in live], **settings)
    verdicts.drop(live[~made.keep], "balance")
    verdicts.weights = made.weights
    return _told(made)


def _told(made: Balance) -> dict[str, Any]:
    return {
        "counts": made.counts,
        "imbalance_ratio": round(made.imbalance_ratio, 4),
        "effective_number": round(made.effective_number, 4),
        "max_per_class": made.max_per_class,
    }
