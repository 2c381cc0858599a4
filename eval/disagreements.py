"""Where ways of answering disagree. Legend: A ways, N items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.results import paired
from eval.ways import Way

MOST = 20


def disagreements_of(ways: Sequence[Way], texts: Mapping[str, str]) -> dict[str, Any] | None:
    """Items to which the trained ways, or all where there is one, give different answers.

    Answers are those of the first seed.

    Args:
        texts: item to its text; what has none is shown by its id.

    Returns:
        ``arms``; ``share`` of items with different answers, ``different``, how many these are;
        ``constrained_against_likelihood``:
        share in which writing a label greedily gives another than the likeliest one, None where
        both were not asked; ``items``: at most 20, those with the most different answers first:
        ``example_id``, ``text``, ``gold``, ``answers``. None of fewer than two ways.
    """
    asked = _asked(ways)
    if len(asked) < 2:
        return None
    tables = [way.first.answers(way.suite) for way in asked]
    known: dict[str | None, int] = {}
    code_AN = np.array([[known.setdefault(p.label, len(known)) for p in rows] for rows in tables])
    ordered_AN = np.sort(code_AN, axis=0)
    different_N = (np.diff(ordered_AN, axis=0) != 0).sum(axis=0)
    chosen = np.argsort(-different_N, kind="stable")[:MOST]
    return {
        "arms": [way.key for way in asked],
        "share": float((different_N > 0).mean()),
        "different": int((different_N > 0).sum()),
        "constrained_against_likelihood": _greedy_against_likeliest(ways),
        "items": [
            {
                "example_id": (example := tables[0][index].example_id),
                "text": texts.get(example, example),
                "gold": tables[0][index].gold,
                "answers": {
                    way.key: rows[index].label for way, rows in zip(asked, tables, strict=True)
                },
            }
            for index in chosen
            if different_N[index]
        ],
    }


def _asked(ways: Sequence[Way]) -> list[Way]:
    choices = [way for way in ways if way.first.role in ("model", "reference")]
    trained = [way for way in choices if way.trained]
    return trained if len(trained) > 1 else choices


def _greedy_against_likeliest(ways: Sequence[Way]) -> float | None:
    """Mean over seeds. The first token that looks best may lead away from the best label."""
    of_model = {way.first.arm: way for way in ways if way.first.role == "model"}
    if not {"constrained", "likelihood"} <= of_model.keys():
        return None
    greedy, likeliest = paired(of_model["constrained"].results, of_model["likelihood"].results)
    suite = of_model["constrained"].suite
    shares = [
        np.mean(
            [p.label != q.label for p, q in zip(a.answers(suite), b.answers(suite), strict=True)]
        )
        for a, b in zip(greedy, likeliest, strict=True)
    ]
    return float(np.mean(shares)) if shares else None
