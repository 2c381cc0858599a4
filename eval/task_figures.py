"""Figures of merit of each kind of task, with intervals over items where there is a way to one.

Legend: S seeds, N items, L labels, K summands of one item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from eval.record import Kind, Prediction, list_of, value_of
from eval.statistics import Floats, Interval, mean_interval, plain, summed_interval
from pipeline.core.entities import spans_of
from pipeline.core.tallies import f1, macro_f1, micro_f1, over, r2, spread

Table = Sequence[Prediction]
Measure = Callable[[Sequence[Table]], Interval]

MAIN: Mapping[Kind, str] = {
    "label": "accuracy",
    "labels": "accuracy",
    "tags": "entity_f1",
    "value": "mae",
    "preference": "preference_accuracy",
    "channel": "channel_loss",
}
"""The one figure that stands for a kind where there is room for one."""


def figure(kind: Kind, name: str, tables: Sequence[Table]) -> Interval:
    """One figure of a kind.

    Args:
        tables: one for each seed, over the same items.

    Returns:
        The figure; without a way to an interval its ends are NaN.
    """
    ordered = [sorted(table, key=lambda p: p.example_id) for table in tables]
    return _OF_KIND[kind][name](ordered)


def figures(kind: Kind, tables: Sequence[Table]) -> dict[str, Interval]:
    """Every figure of a kind by its name."""
    return {name: figure(kind, name, tables) for name in _OF_KIND[kind]}


def kinds_with(name: str) -> tuple[Kind, ...]:
    """The kinds of task that have a figure of that name."""
    return tuple(kind for kind, measures in _OF_KIND.items() if name in measures)


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _right(tables: Sequence[Table]) -> Interval:
    """Share of items answered exactly right."""
    return mean_interval([[float(p.label == p.gold) for p in table] for table in tables])


def label_sets(kind: Kind, prediction: Prediction) -> tuple[set[str], set[str]]:
    """The labels that are right and those that were answered."""
    if kind == "labels":
        answer = [] if prediction.label is None else list_of(prediction.label)
        return set(list_of(prediction.gold)), set(answer)
    return {prediction.gold}, set() if prediction.label is None else {prediction.label}


def _f1_of_labels(kind: Kind, of_counts: Callable[[Floats], Floats]) -> Measure:
    return lambda tables: _f1_interval(
        _label_counts(kind, tables), lambda sums: of_counts(_parts(sums))
    )


def _label_counts(kind: Kind, tables: Sequence[Table]) -> Floats:
    """[S, N, 3 L]: of each label whether it was right, answered, gold."""
    sets = [[label_sets(kind, prediction) for prediction in table] for table in tables]
    labels = sorted({label for rows in sets for pair in rows for part in pair for label in part})
    column = {label: index for index, label in enumerate(labels)}
    moments = np.zeros((len(tables), len(tables[0]), 3, len(labels)))
    for seed, rows in enumerate(sets):
        for item, (gold, answer) in enumerate(rows):
            for part, found in enumerate((gold & answer, answer, gold)):
                moments[seed, item, part, [column[label] for label in found]] = 1.0
    return moments.reshape(len(tables), len(tables[0]), 3 * len(labels))


def _parts(sums: Floats) -> Floats:
    """[..., 3, L]: right, answered and gold of each label."""
    return sums.reshape(*sums.shape[:-1], 3, sums.shape[-1] // 3)


def _f1_interval(moment_SNK: Floats, of_sums: Callable[[Floats], Floats]) -> Interval:
    wrong_K = moment_SNK.mean(axis=(0, 1))
    wrong_K[: len(wrong_K) // 3] = 0.0
    return summed_interval(moment_SNK, of_sums, _rng(), wrong_K)


def _entity_f1(tables: Sequence[Table]) -> Interval:
    """Over all entities together: right is one of the same label from the same to the same."""
    return _f1_interval(_of_items(tables, _entities), f1)


def _entities(prediction: Prediction) -> list[float]:
    gold = set(spans_of(list_of(prediction.gold)))
    answer = set(spans_of(list_of(prediction.label or "[]")))
    return [len(gold & answer), len(answer), len(gold)]


def _token_accuracy(tables: Sequence[Table]) -> Interval:
    moment_SN2 = _of_items(tables, _tokens)
    return summed_interval(moment_SN2, _share, _rng(), np.array([0.0, moment_SN2[..., 1].mean()]))


def _tokens(prediction: Prediction) -> list[float]:
    gold, answer = list_of(prediction.gold), list_of(prediction.label or "[]")
    return [sum(a == b for a, b in zip(gold, answer, strict=True)), len(gold)]


def _of_items(tables: Sequence[Table], part: Callable[[Prediction], list[float]]) -> Floats:
    """[S, N, K]: what ``part`` makes of each answer."""
    return np.array([[part(prediction) for prediction in table] for table in tables], dtype=float)


def _share(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = sums[..., 0] / sums[..., 1]
    return found


def _values(tables: Sequence[Table]) -> tuple[Floats, Floats]:
    """Gold values [N] and answers [S, N]."""
    gold_N = np.array([value_of(p.gold) for p in tables[0]])
    return gold_N, np.array([[value_of(p.label or "NaN") for p in table] for table in tables])


def _valued(of_sums: Callable[[Floats], Floats]) -> Measure:
    def measure(tables: Sequence[Table]) -> Interval:
        gold_N, answer_SN = _values(tables)
        off_SN = answer_SN - gold_N
        y_SN = np.broadcast_to(_centred(gold_N), answer_SN.shape)
        p_SN = _centred(answer_SN)
        columns = [np.ones_like(p_SN), abs(off_SN), off_SN**2]
        columns += [y_SN, y_SN**2, p_SN, p_SN**2, y_SN * p_SN]
        return summed_interval(np.stack(columns, axis=2), of_sums, _rng())

    return measure


def _mae(sums: Floats) -> Floats:
    found: Floats = sums[..., 1] / sums[..., 0]
    return found


def _rmse(sums: Floats) -> Floats:
    found: Floats = np.sqrt(sums[..., 2] / sums[..., 0])
    return found


def _r2(sums: Floats) -> Floats:
    return r2(sums[..., 0], sums[..., 2], sums[..., 3], sums[..., 4])


def _pearson(sums: Floats) -> Floats:
    items, _, _, y, yy, p, pp, yp = np.moveaxis(sums, -1, 0)
    both = np.sqrt(spread(items, y, yy)) * np.sqrt(spread(items, p, pp))
    return over(yp - y * p / items, both)


def _centred(values: Floats) -> Floats:
    """Less their mean: it changes no spread, and squares of small numbers keep their digits.

    What lies within rounding of the mean is on it.
    """
    mean = values.mean(axis=-1, keepdims=True)
    off = values - mean
    return np.asarray(np.where(abs(off) > 4 * np.spacing(abs(mean)), off, 0.0))


def _spearman(tables: Sequence[Table]) -> Interval:
    """Pearson's correlation of the ranks, ties at their mean rank."""
    # Imported late: the plan reads gates without waiting for scipy.
    from scipy.stats import rankdata

    gold_N, answer_SN = _values(tables)
    y_N = rankdata(gold_N) - (len(gold_N) + 1) / 2
    p_SN = rankdata(answer_SN, axis=1) - (len(gold_N) + 1) / 2
    spread_S = np.sqrt((y_N**2).sum() * (p_SN**2).sum(axis=1))
    return plain(float(over(p_SN @ y_N, spread_S).mean()))


def _preference_margin(tables: Sequence[Table]) -> Interval:
    """Mean reward of the chosen answer less that of the rejected one, in nats."""
    return summed_interval(_of_items(tables, _margin), _share, _rng())


def _margin(prediction: Prediction) -> list[float]:
    scores = prediction.scores or {}
    return [scores["chosen"] - scores["rejected"], 1.0]


_OF_KIND: Mapping[Kind, Mapping[str, Measure]] = {
    "label": {
        "accuracy": _right,
        "micro_f1": _f1_of_labels("label", micro_f1),
        "macro_f1": _f1_of_labels("label", macro_f1),
    },
    "labels": {
        "accuracy": _right,
        "micro_f1": _f1_of_labels("labels", micro_f1),
        "macro_f1": _f1_of_labels("labels", macro_f1),
    },
    "tags": {"entity_f1": _entity_f1, "token_accuracy": _token_accuracy},
    "value": {
        "mae": _valued(_mae),
        "rmse": _valued(_rmse),
        "r2": _valued(_r2),
        "pearson": _valued(_pearson),
        "spearman": _spearman,
    },
    "preference": {"preference_accuracy": _right, "preference_margin": _preference_margin},
}
