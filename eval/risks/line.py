"""One line of a risk page."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from eval.statistics import Interval, mean_interval

Topic = Literal[
    "bias", "untrue output", "privacy", "property and source", "misuse", "robustness", "cost",
    "timeliness", "scale", "explanation",
]  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A measurement, or why there is none.

    Attributes:
        topic: the risk.
        what: the figure, in words.
        shown: the figure as people read it, with its interval and n; of no measurement its why.
        how: by which rule it was measured; None where it was not.
        value: the figure; None where it is no number, or was not measured.
        low, high: the ends of its 95 % interval; None where it has none.
        n: what was counted over.
        measured: whether there is a figure at all.
        why: why nothing was measured; None where something was.
    """

    topic: Topic
    what: str
    shown: str
    how: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    measured: bool = True
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the report and its readers take it."""
        return asdict(self)


def not_measured(topic: Topic, what: str, why: str) -> Line:
    """A line without a figure: never a 0 in its place."""
    return Line(topic, what, f"not measured: {why}", measured=False, why=why)


def share(
    topic: Topic,
    what: str,
    hits: Sequence[bool],
    how: str,
    *,
    of: str = "items",
    clusters: Sequence[Hashable] | None = None,
) -> Line:
    """A share of items with its 95 % interval, Wilson's where each item stands by itself.

    Not measured where there is no item.

    Args:
        clusters: of each item, where items share a document, a phrase or a template.
    """
    if not hits:
        return not_measured(topic, what, f"there are no {of}")
    found = mean_interval([[float(hit) for hit in hits]], clusters)
    shown = f"{percent(found)}, n = {len(hits):,} {of}"
    how += over(clusters, of)
    return Line(topic, what, shown, how, found.estimate, found.low, found.high, len(hits))


def over(clusters: Sequence[Hashable] | None, of: str = "items") -> str:
    """What is added to a rule where the interval is over clusters."""
    if clusters is None:
        return ""
    return f"; interval over the {len(set(clusters)):,} groups that the {of} come from"


def interval(
    topic: Topic,
    what: str,
    found: Interval,
    n: int,
    how: str,
    *,
    of: str = "items",
    digits: int = 3,
) -> Line:
    """A figure that is no share, with its 95 % interval; told without, where it has none."""
    none = math.isnan(found.low) or math.isnan(found.high)
    ends = "no interval" if none else f"{found.low:.{digits}f} to {found.high:.{digits}f}"
    shown = f"{found.estimate:.{digits}f} ({ends}), n = {n:,} {of}"
    low, high = (None, None) if none else (found.low, found.high)
    return Line(topic, what, shown, how, found.estimate, low, high, n)


def percent(found: Interval) -> str:
    """A share and its interval, in percent."""
    return f"{found.estimate:.1%} ({found.low:.1%} to {found.high:.1%})"
