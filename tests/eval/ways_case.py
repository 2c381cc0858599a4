"""Made-up ways of answering one task, as results of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from eval.costs import Cost
from eval.record import Prediction
from eval.results import ModelResult, Role
from pipeline.core.arms import Arm

ITEMS = 2000
LABELS = ("card", "fee", "limit", "pin")
GOLDS = [LABELS[index % 4] for index in range(ITEMS)]


def answers(right: Sequence[bool], latency_s: float = 0.01) -> list[Prediction]:
    """Right where it says so, else the next label."""
    return [
        Prediction(
            f"i{index:05d}", gold, gold if is_right else LABELS[(index + 1) % 4], None, None,
            latency_s, 20, 3,
        )
        for index, (gold, is_right) in enumerate(zip(GOLDS, right, strict=False))
    ]  # fmt: skip


def rights(share: float, seed: int, items: int = ITEMS) -> list[bool]:
    """Right in about that share; the same items are hard for everyone."""
    hardness = np.random.default_rng(99).permutation(items) / items
    noise = np.random.default_rng(seed).normal(0, 0.02, items)
    return [bool(one) for one in hardness + noise < share]


def asked(
    arm: Arm,
    right: Sequence[bool],
    *,
    role: Role = "model",
    seed: int = 0,
    seconds: float | None = 1.0,
    device: Literal["cpu", "cuda"] = "cpu",
    clusters: Mapping[str, str] | None = None,
    name: str = "",
) -> ModelResult:
    """One result on suite test.

    Args:
        seconds: of compute for 1,000 items; None where it was not told.
    """
    items = len(right)
    spent = None if seconds is None else seconds * items / 1000
    costs = {} if spent is None else {
        "test": Cost(items, spent, spent, 10**8, device, 20 * items, 3 * items)
    }  # fmt: skip
    return ModelResult(
        name or ("rung" if role == "reference" else "demo"),
        "L0" if role in ("reference", "base") else "L2",
        arm,
        role,
        seed,
        predictions={"test": answers(right)},
        costs=costs,
        clusters={"test": clusters} if clusters else {},
    )
