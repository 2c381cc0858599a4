"""A made-up ladder whose true differences are known."""

from __future__ import annotations

import math

import numpy as np

from eval.record import Prediction, TextLoss
from eval.results import Level, ModelResult, Role
from pipeline.core.arms import Arm

LABELS = [f"label_{index}" for index in range(8)]
ITEMS = 240
TEXT = {"domain": {"L0": 5.9, "L1": 1.2, "L2": 1.4}, "general": {"L0": 5.2, "L1": 5.4, "L2": 5.5}}


def predictions(accuracy: float, seed: int, scored: bool = False) -> list[Prediction]:
    """Answers that are right in about ``accuracy`` of the items; the same items are hard."""
    rng = np.random.default_rng(seed)
    hardness = np.random.default_rng(99).permutation(ITEMS) / ITEMS
    rows = []
    for index in range(ITEMS):
        gold = LABELS[index % len(LABELS)]
        right = hardness[index] + rng.normal(0, 0.05) < accuracy
        label = gold if right else LABELS[(index + 1) % len(LABELS)]
        shares = {name: 0.65 if name == label else 0.05 for name in LABELS}
        scores = {name: math.log(share) for name, share in shares.items()} if scored else None
        text = None if scored else label
        rows.append(Prediction(f"item{index}", gold, label, scores, text, 0.01, 20, 4))
    return rows


def losses(suite: str, level: str, documents: int = 60) -> list[TextLoss]:
    """Documents of one difficulty for every level."""
    rng = np.random.default_rng(5)
    own = np.random.default_rng(int(TEXT[suite][level] * 10))
    rows = []
    for index in range(documents):
        tokens = int(rng.integers(20, 120))
        nll = TEXT[suite][level] * rng.gamma(50, 0.02) * tokens * own.normal(1, 0.02)
        rows.append(TextLoss(f"doc{index}", float(nll), tokens, tokens * 3))
    return rows


def reader(level: Level, role: Role) -> ModelResult:
    """A level that only reads text."""
    read = {suite: losses(suite, level) for suite in TEXT}
    return ModelResult(f"demo-{level.lower()}", level, "text", role, 0, losses=read)


def answerer(arm: Arm, role: Role, seed: int, accuracy: float, reads: bool = False) -> ModelResult:
    """An L2 of one form and seed."""
    answers = predictions(accuracy, 10 * seed + (role == "control"), arm == "classifier")
    return ModelResult(
        f"demo-{role}-{arm}",
        "L2",
        arm,
        role,
        seed,
        losses={suite: losses(suite, "L2") for suite in TEXT} if reads else {},
        predictions={"test": answers},
        seconds={"train": 20.0 + seed, "evaluate": 2.0},
    )


def ladder(seeds: int = 3) -> list[ModelResult]:
    """L0, L1, and L2s of both forms with their controls: L1 helps the generative form alone."""
    results = [reader("L0", "base"), reader("L1", "parent")]
    for seed in range(seeds):
        results += [
            answerer("generate", "model", seed, 0.75, reads=True),
            answerer("generate", "control", seed, 0.45),
            answerer("classifier", "model", seed, 0.70),
            answerer("classifier", "control", seed, 0.70),
        ]
    return results
