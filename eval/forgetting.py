"""What a model still knows of what stood below it: every suite that both were measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.bits import bits_ratio_interval
from eval.conclusions import ENOUGH_SEEDS
from eval.metrics import bits_per_byte
from eval.results import ModelResult, losses_in_order, reading
from eval.tasks import told
from eval.ways import Way, compare_ways, spoken_interval, ways_of

_BELOW = ("parent", "base")


def forgetting_of(
    results: Sequence[ModelResult], learned: Sequence[str | None]
) -> list[dict[str, Any]]:
    """How the recipe's models stand on suites of the levels below, against those levels.

    Args:
        learned: suites that the recipe trains for: a gain there is no lack of forgetting.

    Returns:
        Records of ``suite``, ``metric``, ``arm`` (None of text), ``against`` (role), ``name``,
        ``below``, ``model`` and ``was`` (figures), ``change``: estimate, low, high, covers (a
        ratio of bits per byte, where above 1 is forgotten; a difference of accuracies, where
        below 0 is), ``forgotten`` (True, False where shown, else None) and ``words``.
    """
    suites = {suite for result in results for suite in (*result.losses, *result.predictions)}
    found = []
    for suite in sorted(suites - {name for name in learned if name}):
        found += _of_text(results, suite)
        found += _of_task(ways_of(results, suite))
    return found


def _of_text(results: Sequence[ModelResult], suite: str) -> list[dict[str, Any]]:
    model = reading(results, suite, ("model",))
    found = []
    for role in _BELOW:
        below = reading(results, suite, (role,))
        if model is None or below is None:
            continue
        ours, theirs = (losses_in_order(result, suite) for result in (model, below))
        figures = [bits_per_byte(losses) for losses in (ours, theirs)]
        if None in figures or 0.0 in figures:
            continue
        ratio = bits_ratio_interval(ours, theirs, np.random.default_rng(0))
        side = True if ratio.low > 1 else False if ratio.high < 1 else None
        shown = f"[{ratio.low:.3f}, {ratio.high:.3f}]"
        words = (
            f"{figures[0]:.3f} bits per byte on {suite} against {figures[1]:.3f} of "
            f"{below.name}: {ratio.estimate:.3f} times {shown}, {_verb(side)} for these weights."
        )
        found.append(
            _record(suite, "bits_per_byte", None, model, below, figures, told(ratio), side, words)
        )
    return found


def _of_task(ways: Sequence[Way]) -> list[dict[str, Any]]:
    found = []
    for model in ways:
        for below in ways:
            same = model.first.arm == below.first.arm
            if model.first.role != "model" or below.first.role not in _BELOW or not same:
                continue
            pair = compare_ways(model, below)
            if pair is None:
                continue
            change = pair.difference
            side = True if change.high < 0 else False if change.low > 0 else None
            figures = [way.accuracy.estimate for way in (model, below)]
            words = (
                f"{model.first.arm} on {model.suite}: accuracy {figures[0]:.3f} against "
                f"{figures[1]:.3f} of {below.first.name}: {spoken_interval(change)}, {_verb(side)}"
                f"{'' if pair.seeds >= ENOUGH_SEEDS else ' for these weights'}."
            )
            found.append(
                _record(model.suite, "accuracy", model.first.arm, model.first, below.first,
                        figures, told(change), side, words)
            )  # fmt: skip
    return found


def _verb(side: bool | None) -> str:
    if side is None:
        return "no change is shown"
    return "some is forgotten" if side else "it has gained"


def _record(
    suite: str,
    metric: str,
    arm: str | None,
    model: ModelResult,
    below: ModelResult,
    figures: Sequence[float | None],
    change: Mapping[str, Any],
    side: bool | None,
    words: str,
) -> dict[str, Any]:
    return {
        "suite": suite, "metric": metric, "arm": arm, "against": below.role, "name": model.name,
        "below": below.name, "model": figures[0], "was": figures[1], "change": dict(change),
        "forgotten": side, "words": words,
    }  # fmt: skip
