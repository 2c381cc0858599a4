"""How many rows each form needs, and what wrong labels cost it: figures of a learning curve.

Two claims of textbooks are put to the test on the same thinned rows, paired by seed and item:
that a discriminative learner needs fewer rows, and that a generative one, whose error is higher
in the end, comes near its own end sooner and so wins with few (Ng and Jordan 2001, "On
discriminative vs. generative classifiers"). ``eval.learning_claims`` says what came of it.

Legend: S seeds, N items (the same at every point).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.learning_claims import claims_of
from eval.metrics import chance
from eval.record import Prediction, read_predictions
from eval.resampling import Spread, spread_of
from eval.significance import holm
from eval.statistics import Interval, mean_interval
from pipeline.core.arms import REFERENCES, info_of
from pipeline.core.artifact import Artifact
from pipeline.core.errors import IntegrityError

Floats = npt.NDArray[np.float64]
REACHED = 0.9
"""Of its own accuracy with all rows, at which a form is said to have what it needs."""
_TEXTBOOK = ("tfidf_bayes", "tfidf_logreg")


@dataclass(frozen=True)
class Point:
    """One learner at one point of the curve.

    Attributes:
        share: of the training rows.
        flipped: share of their labels that are wrong.
        rows: that it was trained on.
        predictions: on the task's test items.
    """

    arm: str
    share: float
    flipped: float
    seed: int
    rows: int
    predictions: Sequence[Prediction]


@dataclass(frozen=True)
class _Cell:
    """All seeds of one learner at one point.

    Attributes:
        correct: [S, N] right (1) and wrong (0), items by their ids.
    """

    seeds: tuple[int, ...]
    rows: int
    correct: Floats


@dataclass(frozen=True)
class _Table:
    """The cells of a curve by (arm, share, flipped), and the clusters of the items."""

    cells: Mapping[tuple[str, float, float], _Cell]
    clusters: Sequence[Hashable] | None
    chance: float
    arms: tuple[str, ...]
    shares: tuple[float, ...]
    flips: tuple[float, ...]

    def pair(
        self, left: tuple[str, float, float], right: tuple[str, float, float]
    ) -> tuple[Floats, Floats] | None:
        """Two cells by the seeds that they share; one set of weights stands against every seed."""
        if left not in self.cells or right not in self.cells:
            return None
        a, b = self.cells[left], self.cells[right]
        if 1 in {len(a.seeds), len(b.seeds)}:
            return a.correct, b.correct
        both = [seed for seed in a.seeds if seed in b.seeds]
        if not both:
            return None
        return (
            a.correct[[a.seeds.index(seed) for seed in both]],
            b.correct[[b.seeds.index(seed) for seed in both]],
        )

    def spread(self, value_SN: Floats) -> Spread:
        """How far the mean of a table of differences may lie off, over seeds and items.

        One item that only the one side gets right and one that only the other does are added,
        as ``eval.statistics`` does to every difference.
        """
        return spread_of(value_SN, added=(-1.0, 1.0), clusters=self.clusters)


@dataclass
class Figures:
    """What was found, as plain JSON values.

    Attributes:
        reached: of each learner, the smallest share with REACHED of its full accuracy.
        differences: generative less discriminative at each share, Holm over all of them.
        needs: whether at some share the one of a pair is nearer to REACHED of its own end.
        flips: what wrong labels cost each learner, and one of a pair more than the other.
            Of differences, needs and pairs in flips: ``p`` of no difference, and ``holm_p`` over
            all of the same list.
    """

    budget: Mapping[str, Any]
    points: list[dict[str, Any]] = field(default_factory=list)
    reached: list[dict[str, Any]] = field(default_factory=list)
    differences: list[dict[str, Any]] = field(default_factory=list)
    needs: list[dict[str, Any]] = field(default_factory=list)
    flips: list[dict[str, Any]] = field(default_factory=list)


def read_points(inputs: Mapping[str, Artifact], points: Sequence[Mapping[str, Any]]) -> list[Point]:
    """The points of a curve from the reports of their evaluations.

    Args:
        inputs: ``curveN`` (Report) in the order of ``points``, and the Datasets they name.
        points: arm, share, flipped, seed, and ``data``, the role of a Dataset.
    """
    found = []
    for index, about in enumerate(points):
        facts = inputs[about["data"]].manifest.facts
        report = inputs[f"curve{index}"].path
        found.append(
            Point(
                about["arm"], about["share"], about["flipped"], about["seed"],
                int(facts["kept"]["train"]),
                read_predictions(report / "predictions-test.jsonl"),
            )
        )  # fmt: skip
    return found


def learning_curve(
    points: Sequence[Point],
    budget: Mapping[str, Any],
    clusters: Mapping[str, Hashable] | None = None,
) -> dict[str, Any]:
    """The learning curve as JSON values: points, tests, and what they say in words.

    Args:
        budget: what was held fixed: ``max_steps`` or ``num_train_epochs`` of the whole training.
        clusters: of each item, where items share a document or a phrase.

    Raises:
        IntegrityError: two points were judged on different items.
    """
    table = _table(points, clusters)
    figures = Figures(budget, points=list(_points(table)), reached=list(_reached(table)))
    pairs = list(_pairs(table.arms))
    figures.differences = list(_differences(table, pairs))
    figures.needs = list(_needs(table, pairs))
    figures.flips = list(_flips(table, pairs))
    paired = [entry for entry in figures.flips if "against" in entry]
    for family in (figures.differences, figures.needs, paired):
        chances = holm([entry["p"] for entry in family])
        for entry, chance_of_all in zip(family, chances, strict=True):
            entry["holm_p"] = chance_of_all
    told = {name: value for name, value in figures.__dict__.items() if name != "budget"}
    return {**told, "chance": table.chance, "claims": claims_of(figures, table.chance)}


def _table(points: Sequence[Point], clusters: Mapping[str, Hashable] | None) -> _Table:
    groups: dict[tuple[str, float, float], list[Point]] = {}
    for point in points:
        groups.setdefault((point.arm, point.share, point.flipped), []).append(point)
    golds = {p.example_id: p.gold for p in points[0].predictions}
    names = sorted(golds)
    cells = {}
    for key, group in groups.items():
        group.sort(key=lambda point: point.seed)
        correct = [_correct(point, golds, names) for point in group]
        rows = round(float(np.mean([point.rows for point in group])))
        cells[key] = _Cell(tuple(p.seed for p in group), rows, np.array(correct, dtype=float))
    return _Table(
        cells,
        # Items that share nothing are in no cluster's list, and stand by themselves.
        [clusters.get(name, (name,)) for name in names] if clusters else None,
        chance(list(golds.values())),
        tuple(dict.fromkeys(point.arm for point in points)),
        tuple(sorted({point.share for point in points})),
        tuple(sorted({point.flipped for point in points} - {0.0})),
    )


def _correct(point: Point, golds: Mapping[str, str], names: Sequence[str]) -> list[bool]:
    answers = {p.example_id: p for p in point.predictions}
    if {name: p.gold for name, p in answers.items()} != golds:
        raise IntegrityError(
            f"learning curve: {point.arm} at {point.share:g} of the rows (seed {point.seed}) was "
            "measured on other items than the first point; evaluate both again"
        )
    return [answers[name].label == answers[name].gold for name in names]


def _points(table: _Table) -> Iterator[dict[str, Any]]:
    for (arm, share, flipped), cell in sorted(table.cells.items(), key=lambda entry: entry[0][1:]):
        yield {
            "form": info_of(arm).form, "arm": arm, "share": share, "rows": cell.rows,
            "flipped": flipped, "seeds": len(cell.seeds),
            "accuracy": _plain(mean_interval(cell.correct, table.clusters)),
        }  # fmt: skip


def _pairs(arms: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(generative, discriminative): every model's form with every other, and the textbook's."""
    models = [arm for arm in arms if arm not in REFERENCES]
    for generative in models:
        for other in models:
            forms = info_of(generative).form, info_of(other).form
            if forms == ("generative", "discriminative"):
                yield generative, other
    if set(_TEXTBOOK) <= set(arms):
        yield _TEXTBOOK


def _reached(table: _Table) -> Iterator[dict[str, Any]]:
    for arm in table.arms:
        whole = table.cells.get((arm, 1.0, 0.0))
        if whole is None:
            continue
        full = mean_interval(whole.correct, table.clusters)
        found = next(
            (
                share
                for share in table.shares
                if (cell := table.cells.get((arm, share, 0.0))) is not None
                and cell.correct.mean() >= REACHED * full.estimate
            ),
            1.0,
        )
        cell = table.cells[(arm, found, 0.0)]
        yield {
            "arm": arm, "form": info_of(arm).form, "share": found, "rows": cell.rows,
            "accuracy": _plain(mean_interval(cell.correct, table.clusters)),
            "full": _plain(full), "learned": full.low > table.chance, "seeds": len(cell.seeds),
            "smallest": found == table.shares[0],
        }  # fmt: skip


def _differences(table: _Table, pairs: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Accuracy of the generative side less that of the discriminative at each share."""
    for generative, other in pairs:
        for share in table.shares:
            both = table.pair((generative, share, 0.0), (other, share, 0.0))
            if both is None:
                continue
            value_SN = both[0] - both[1]
            spread = table.spread(value_SN)
            yield {
                "generative": generative, "discriminative": other, "share": share,
                "rows": table.cells[(generative, share, 0.0)].rows, "seeds": len(value_SN),
                "difference": _of(value_SN, spread), "p": _two_sided(spread),
            }  # fmt: skip


def _needs(table: _Table, pairs: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """How much nearer the discriminative side is to REACHED of its own full accuracy.

    Of each side: accuracy at a share less REACHED times that with all rows. The difference of
    the two is above 0 where the discriminative one has more of what it will have.
    """
    for generative, other in pairs:
        for share in table.shares[:-1]:
            sides = [table.pair((arm, share, 0.0), (arm, 1.0, 0.0)) for arm in (other, generative)]
            if sides[0] is None or sides[1] is None:
                continue
            short = [part - REACHED * whole for part, whole in (sides[0], sides[1])]
            value_SN = short[0] - short[1]
            spread = table.spread(value_SN)
            yield {
                "generative": generative, "discriminative": other, "share": share,
                "nearer": _of(value_SN, spread), "p": _two_sided(spread),
            }  # fmt: skip


def _flips(table: _Table, pairs: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Accuracy lost to wrong labels; of a pair, what the generative side loses more."""
    for flipped in table.flips:
        lost = {}
        for arm in table.arms:
            both = table.pair((arm, 1.0, 0.0), (arm, 1.0, flipped))
            if both is not None:
                lost[arm] = both[0] - both[1]
                yield {
                    "arm": arm, "flipped": flipped, "seeds": len(lost[arm]),
                    "lost": _of(lost[arm], table.spread(lost[arm])),
                }  # fmt: skip
        for generative, other in pairs:
            if generative in lost and other in lost:
                value_SN = lost[generative] - lost[other]
                spread = table.spread(value_SN)
                yield {
                    "arm": generative, "against": other, "flipped": flipped,
                    "seeds": len(value_SN), "lost": _of(value_SN, spread),
                    "p": _two_sided(spread),
                }  # fmt: skip


def _two_sided(spread: Spread) -> float:
    """p of no difference."""
    return min(1.0, 2 * spread.chance_of(abs(spread.centre)))


def _of(value_SN: Floats, spread: Spread) -> dict[str, Any]:
    estimate = float(value_SN.mean())
    return {
        "estimate": estimate,
        "low": min(spread.centre - spread.half, estimate),
        "high": max(spread.centre + spread.half, estimate),
    }


def _plain(interval: Interval) -> dict[str, Any]:
    return {
        "estimate": interval.estimate, "low": interval.low, "high": interval.high,
        "covers": interval.covers,
    }  # fmt: skip
