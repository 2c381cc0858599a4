"""Ways of answering a task: one model in one arm, its seeds together, and every two of them.

Legend: S seeds, N items in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eval.conclusions import ENOUGH_SEEDS, SHOWN, not_shown
from eval.results import (
    LABELLED,
    ModelResult,
    answering,
    by_model,
    clusters_in_order,
    correct_table,
    matched,
)
from eval.significance import Pair, compared, holm
from eval.statistics import Floats, Interval, mean_interval
from eval.tasks import told
from pipeline.core.arms import REFERENCES, arm_name, info_of


@dataclass(frozen=True)
class Way:
    """One model, asked in one way.

    Attributes:
        key: names it among the others.
        results: one for each seed.
        suite: the task's.
    """

    key: str
    results: tuple[ModelResult, ...]
    suite: str

    @property
    def first(self) -> ModelResult:
        """Stands for all where seeds do not matter."""
        return self.results[0]

    @property
    def trained(self) -> bool:
        """Whether its recipe trained it: what a reference has learned is not the model's."""
        return self.first.arm not in {*REFERENCES, "joint_untrained"}

    @cached_property
    def correct(self) -> Floats:
        """[S, N], right (1) and wrong (0)."""
        return correct_table(self.results, self.suite)

    @cached_property
    def clusters(self) -> list[str] | None:
        """Of each item; None where each stands by itself."""
        return clusters_in_order(self.first, self.suite)

    @cached_property
    def accuracy(self) -> Interval:
        """Over seeds and items."""
        return mean_interval(self.correct, self.clusters)

    @property
    def title(self) -> str:
        """As people call it; the model is named where two would be called the same."""
        first, (_, also, model) = self.first, self.key.partition(" of ")
        control = "" if first.role in ("model", "reference") else f" ({first.role})"
        return arm_name(first.arm) + control + (f" of {model}" if also else "")

    def rows(self, results: Sequence[ModelResult]) -> Floats:
        """Right and wrong of some of the seeds."""
        place = {id(result): index for index, result in enumerate(self.results)}
        return self.correct[[place[id(result)] for result in results]]


def ways_of(results: Sequence[ModelResult], suite: str | None) -> list[Way]:
    """Every way in which a suite was answered right or wrong, in the given order."""
    if suite is None:
        return []
    having = [r for r in results if suite in r.predictions and r.kind(suite) in LABELLED]
    groups = by_model(having)
    keys = [_key(models[0]) for models in groups]
    found = []
    for key, models in zip(keys, groups, strict=True):
        # Two of one seed are refused.
        answering(models, suite, models[0].arm, models[0].role)
        name = f"{key} of {models[0].name}" if keys.count(key) > 1 else key
        found.append(Way(name, tuple(models), suite))
    return found


def _key(result: ModelResult) -> str:
    plain = result.role in ("model", "reference")
    return result.arm if plain else f"{result.arm} ({result.role})"


def compare_ways(a: Way, b: Way) -> Pair | None:
    """Two ways on the same items; None where they share no seed."""
    pair = matched(a.results, b.results)
    return None if pair is None else compared(a.rows(pair[0]), b.rows(pair[1]), a.clusters)


def pairs_of(ways: Sequence[Way]) -> list[dict[str, Any]]:
    """Every two ways that a choice is made between, and each lower or other rung of one arm.

    Returns:
        Records of ``a``, ``b``, ``difference`` (a less b: estimate, low, high, covers), ``p`` of
        no difference over what the interval covers, ``mcnemar_p`` (exact) and
        ``mcnemar_mid_p``, both for these weights,
        ``holm_p`` (of ``p``, over all pairs of the list), ``smallest_difference``, ``seeds``,
        ``clusters`` and ``words``.
    """
    found = [(a, b, pair) for a, b in _pairs(ways) if (pair := compare_ways(a, b)) is not None]
    adjusted = holm([pair.p for _, _, pair in found])
    return [
        {
            "a": a.key,
            "b": b.key,
            "difference": told(pair.difference),
            "p": pair.p,
            "mcnemar_p": pair.mcnemar,
            "mcnemar_mid_p": pair.mid_p,
            "holm_p": holm_p,
            "smallest_difference": pair.smallest,
            "seeds": pair.seeds,
            "clusters": pair.clusters,
            "words": _words(a.title, b.title, pair, holm_p, len(found)),
        }
        for (a, b, pair), holm_p in zip(found, adjusted, strict=True)
    ]


def _pairs(ways: Sequence[Way]) -> Iterator[tuple[Way, Way]]:
    for index, a in enumerate(ways):
        for b in ways[index + 1 :]:
            roles = {a.first.role, b.first.role}
            choice = roles <= {"model", "reference"}
            if choice or (a.first.arm == b.first.arm and "model" in roles):
                yield a, b


def _words(a: str, b: str, pair: Pair, holm_p: float, comparisons: int) -> str:
    difference = pair.difference
    better, worse = (a, b) if difference.estimate >= 0 else (b, a)
    shown = spoken_interval(difference, flipped=difference.estimate < 0)
    if holm_p < SHOWN:
        if pair.seeds >= ENOUGH_SEEDS:
            return f"{_upper(better)} beats {worse} by {shown} over {pair.seeds} paired seeds."
        return f"For these weights {better} is better than {worse} by {shown}."
    if pair.p < SHOWN:
        return f"{_upper(better)} looks better than {worse} by {shown}; {not_shown(comparisons)}."
    return (
        f"{_upper(a)} and {b} cannot be told apart: {spoken_interval(difference)}; a difference of "
        f"{pair.smallest:.3f} would have been shown four times in five."
    )


def _upper(words: str) -> str:
    """As a sentence begins."""
    return words[:1].upper() + words[1:]


def spoken_interval(interval: Interval, flipped: bool = False) -> str:
    """``+0.034 [+0.010, +0.058]``; flipped, as seen from the other side."""
    estimate, low, high = interval.estimate, interval.low, interval.high
    if flipped:
        estimate, low, high = -estimate, -high, -low
    return f"{estimate:+.3f} [{low:+.3f}, {high:+.3f}]"


def about(way: Way) -> dict[str, Any]:
    """What a record says of a way before its figures."""
    first = way.first
    return {
        "key": way.key, "arm": first.arm, "form": info_of(first.arm).form, "name": first.name,
        "level": first.level, "role": first.role,
    }  # fmt: skip
