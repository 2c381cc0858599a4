"""What a model knows by heart: right answers on rows that it was trained on, and on the test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from eval.statistics import Interval, mean_interval
from eval.tasks import told
from eval.ways import Way


def gaps_of(ways: Sequence[Way]) -> list[dict[str, Any]]:
    """Right answers on training rows against those on the test, for each way that was asked some.

    Returns:
        Records of ``arm``, ``name``, ``role``, ``train_items`` (rows of train that were asked),
        ``train``, ``test`` and ``gap`` (train less test). Of a model that was asked none,
        ``train`` and ``gap`` are None.
    """
    found = []
    for way in ways:
        tables = [result.held_out.get("train") for result in way.results]
        asked = [table for table in tables if table]
        ordered = [sorted(table, key=lambda p: p.example_id) for table in asked]
        rows = {tuple(p.example_id for p in table) for table in ordered}
        first = way.first
        if not asked and first.role == "model" and first.kind(way.suite) == "label":
            about = {"arm": first.arm, "name": first.name, "role": first.role}
            known = {"train_items": 0, "train": None, "test": told(way.accuracy), "gap": None}
            found.append({**about, **known})
        if len(asked) != len(way.results) or len(rows) > 1:
            continue
        shared = first.clusters.get("train")
        items = [p.example_id for p in ordered[0]]
        clusters = [shared.get(item, item) for item in items] if shared else None
        train = mean_interval([[p.label == p.gold for p in table] for table in ordered], clusters)
        found.append(
            {
                "arm": first.arm,
                "name": first.name,
                "role": first.role,
                "train_items": len(items),
                "train": told(train),
                "test": told(way.accuracy),
                "gap": told(difference_of(train, way.accuracy)),
            }
        )
    return found


def difference_of(a: Interval, b: Interval) -> Interval:
    """Interval of a less b of independent samples, from an interval of each.

    The method of variance estimates recovery (Zou and Donner 2008); of two Wilson intervals it
    is Newcombe's (1998, method 10).
    """
    estimate = a.estimate - b.estimate
    below = math.hypot(a.estimate - a.low, b.high - b.estimate)
    above = math.hypot(a.high - a.estimate, b.estimate - b.low)
    return Interval(estimate, estimate - below, estimate + above, covers=a.covers)
