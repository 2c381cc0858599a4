"""Two models on the same items: who is right where, and how sure the difference is.

Legend: S seeds, N items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.record import Kind, Prediction
from eval.significance import compared
from eval.statistics import Interval, mean_interval
from eval.tasks import told
from pipeline.core.errors import IntegrityError

RIGHT_OR_WRONG: tuple[Kind, ...] = ("label", "labels", "preference")
"""Kinds whose answers are right or wrong as a whole."""
_SHOWN = 20


@dataclass(frozen=True)
class Side:
    """One model's answers to one suite in one form.

    Attributes:
        title: the model and its form, for people.
        seeds: training seed to the answers; one, of any number, where no seed is known.
        known: whether those seeds are training seeds.
        groups: item to what it shares with others.
        labels: that it chose from, where its answers have no scores to tell them.
        limit: items that were drawn at most; None: all.
        again: the command that asks it anew, without its options; None: nothing tells it, and the
            limit neither.
    """

    title: str
    seeds: Mapping[int, Sequence[Prediction]]
    known: bool = True
    groups: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] | None = None
    limit: int | None = None
    again: str | None = None

    @property
    def offered(self) -> set[str] | None:
        """The labels that it chose from; None where nothing tells them."""
        rows = next(iter(self.seeds.values()))
        if rows and rows[0].scores is not None:
            return set(rows[0].scores)
        return None if self.labels is None else set(self.labels)


def side_by_side(a: Side, b: Side, suite: str) -> dict[str, Any]:
    """The comparison as JSON values.

    Raises:
        IntegrityError: the items, their right answers or the labels that were offered are not
            the same.
    """
    golds = _golds(a, suite)
    for side in (a, b):
        for rows in side.seeds.values():
            _require_same(golds, rows, a, side, suite)
    _require_same_labels(a, b, suite)
    seeds_a, seeds_b = _paired(a, b)
    order = sorted(golds)
    table_a, table_b = (_right(rows, order) for rows in (seeds_a, seeds_b))
    groups = a.groups or b.groups
    clusters = [groups.get(name, name) for name in order] if groups else None
    pair = compared(table_a, table_b, clusters)
    only_a, only_b = _discordant(table_a[0], table_b[0])
    found = {
        "suite": suite,
        "a": a.title,
        "b": b.title,
        "items": len(order),
        "seeds": pair.seeds,
        "clusters": pair.clusters,
        "accuracy": {
            "a": told(mean_interval(table_a, clusters)),
            "b": told(mean_interval(table_b, clusters)),
        },
        "difference": told(pair.difference),
        "p": pair.p,
        "mcnemar_p": pair.mcnemar,
        "smallest_difference": pair.smallest,
        "right": {
            "both": int((table_a[0] * table_b[0]).sum()),
            "only_a": only_a,
            "only_b": only_b,
            "neither": int(((1 - table_a[0]) * (1 - table_b[0])).sum()),
        },
        "apart": _apart(seeds_a[0], seeds_b[0], order),
    }
    return {**found, "words": _words(found, pair.difference)}


def _golds(side: Side, suite: str) -> dict[str, str]:
    rows = next(iter(side.seeds.values()))
    if not rows:
        raise IntegrityError(f"suite {suite}: {side.title} holds no items; evaluate it again")
    return {row.example_id: row.gold for row in rows}


def _require_same(
    golds: Mapping[str, str], rows: Sequence[Prediction], a: Side, b: Side, suite: str
) -> None:
    theirs = {row.example_id: row.gold for row in rows}
    if theirs == golds and len(rows) == len(theirs):
        return
    odd = sorted(k for k in golds.keys() | theirs.keys() if golds.get(k) != theirs.get(k))
    what = f"{len(odd)} differ, such as {odd[0]}" if odd else "some stand twice"
    raise IntegrityError(
        f"suite {suite}: {a.title} was asked {len(golds)} items{_limit(a)} and {b.title} "
        f"{len(theirs)}{_limit(b)}, and they are not the same ({what}); {_remedy(a, b)}"
    )


def _limit(side: Side) -> str:
    if side.again is None:
        return ""
    return " (no --limit)" if side.limit is None else f" (--limit {side.limit})"


def _remedy(a: Side, b: Side) -> str:
    """Whoever was asked less is asked anew: fewer items would show less."""
    if a.again is None or b.again is None or a.limit == b.limit:
        return "evaluate both on the same rows, with the same --limit"
    less, more = sorted((a, b), key=lambda side: side.limit or math.inf)
    limit = "" if more.limit is None else f" --limit {more.limit}"
    without = " without --limit" if more.limit is None else ""
    return f"run `{less.again}{limit}`{without}, its other options as before"


def _require_same_labels(a: Side, b: Side, suite: str) -> None:
    """Who chooses among few is right more often without knowing more."""
    one, other = a.offered, b.offered
    if one is None or other is None or one == other:
        return
    odd = sorted(one ^ other)[0]
    raise IntegrityError(
        f"suite {suite}: {a.title} chose among {len(one)} labels and {b.title} among "
        f"{len(other)} ({odd!r} was offered to one alone); evaluate both with the same labels, "
        "by one recipe or one --labels"
    )


def _paired(a: Side, b: Side) -> tuple[list[Sequence[Prediction]], list[Sequence[Prediction]]]:
    """Tables of the seeds that both have; the first of each where they have none in common."""
    shared = [seed for seed in a.seeds if seed in b.seeds] if a.known and b.known else []
    if shared:
        return [a.seeds[seed] for seed in shared], [b.seeds[seed] for seed in shared]
    return [next(iter(a.seeds.values()))], [next(iter(b.seeds.values()))]


def _right(tables: Sequence[Sequence[Prediction]], order: Sequence[str]) -> Any:
    """[S, N] of 1 where an answer is right, items in one order."""
    rows = []
    for table in tables:
        right = {row.example_id: float(row.label == row.gold) for row in table}
        rows.append([right[name] for name in order])
    return np.array(rows)


def _discordant(a_N: Any, b_N: Any) -> tuple[int, int]:
    return int((a_N * (1 - b_N)).sum()), int((b_N * (1 - a_N)).sum())


def _apart(
    a: Sequence[Prediction], b: Sequence[Prediction], order: Sequence[str]
) -> list[dict[str, Any]]:
    """The first items on which exactly one side is right."""
    of_a, of_b = ({row.example_id: row for row in rows} for rows in (a, b))
    found = []
    for name in order:
        one, other = of_a[name], of_b[name]
        if (one.label == one.gold) != (other.label == other.gold):
            found.append({"example_id": name, "gold": one.gold, "a": one.label, "b": other.label})
    return found[:_SHOWN]


def _words(found: Mapping[str, Any], difference: Interval) -> str:
    a, b = found["a"], found["b"]
    if difference.low > 0:
        verdict = f"{a} is right more often than {b}"
    elif difference.high < 0:
        verdict = f"{b} is right more often than {a}"
    else:
        verdict = f"which of {a} and {b} is right more often is undecided"
    sure = {
        1: "one seed of each does not tell what another training would give",
        2: "two paired seeds: three at least would say more",
    }.get(found["seeds"], f"{found['seeds']} paired seeds")
    least = (
        f"of such test sets 80 % would show a true difference of {found['smallest_difference']:.3f}"
    )
    return f"{verdict} (over {difference.covers}); {sure}; {least}"
