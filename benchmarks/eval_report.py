"""Statistics and report of 100,000 items: five ways of answering, 77 labels, every score.

python -m benchmarks.eval_report [--items N] [--json]

The answers are made up; what is timed is ``compare`` and ``write_report``, the page, the JSON and
the card included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from eval.compare import compare
from eval.costs import Cost
from eval.gates import Gate
from eval.known_items import Known
from eval.record import Prediction
from eval.report import write_report
from eval.results import ModelResult
from pipeline.core.arms import Arm

ITEMS, LABELS, HELD_OUT = 100_000, 77, 2_000
WAYS: tuple[tuple[Arm, float, bool], ...] = (
    ("classifier", 0.92, True), ("generate", 0.90, False), ("constrained", 0.91, False),
    ("likelihood", 0.91, True), ("joint", 0.86, True),
)  # fmt: skip


def answers(items: int, accuracy: float, seed: int, scored: bool) -> list[Prediction]:
    """Made-up answers; the same items are hard for every way."""
    rng = np.random.default_rng(seed)
    labels = [f"label_{index:02d}" for index in range(LABELS)]
    hard_N = np.random.default_rng(0).random(items) + rng.normal(0, 0.05, items)
    gold_N = np.arange(items) % LABELS
    label_N = np.where(hard_N < accuracy, gold_N, rng.integers(0, LABELS, items))
    rows = []
    for index in range(items):
        scores = None
        if scored:
            logits_L = rng.normal(0, 1, LABELS)
            logits_L[label_N[index]] += 6
            logits_L -= np.log(np.exp(logits_L).sum())
            scores = dict(zip(labels, logits_L.tolist(), strict=True))
        gold, label = labels[gold_N[index]], labels[label_N[index]]
        text = None if scored else label
        rows.append(Prediction(f"{index:06d}", gold, label, scores, text, 0.01, 40, 4))
    return rows


def made(items: int) -> list[ModelResult]:
    """One seed of each way, with answers to validation rows and what it cost."""
    found = []
    for seed, (arm, accuracy, scored) in enumerate(WAYS, 1):
        cost = Cost(items, 10.0 * seed * items / 1000, 10.0 * seed * items / 1000, 10**9, "cpu",
                    40 * items, 4 * items)  # fmt: skip
        held_out = {"validation": answers(HELD_OUT, accuracy, 100 + seed, scored)}
        found.append(
            ModelResult(
                "banking", "L2", arm, "model", 1, costs={"test": cost}, held_out=held_out,
                predictions={"test": answers(items, accuracy, seed, scored)},
            )
        )  # fmt: skip
    return found


def measure(items: int = ITEMS) -> dict[str, Any]:
    """Seconds of statistics and report together; prints the parts."""
    results = made(items)
    texts = {"test": {row.example_id: "a question" for row in results[0].predictions["test"]}}
    start = time.perf_counter()
    comparison = compare(
        results, gates=[Gate("test", "accuracy", at_least=0.8)], contamination=Known(),
        domain_suite=None, general_suite=None, task_suite="test", texts=texts,
    )  # fmt: skip
    tree = comparison.to_json()
    compared = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_report(tree, "banking", {}, Path(folder))
        written = time.perf_counter()
        sizes = {path.name: path.stat().st_size for path in sorted(Path(folder).iterdir())}
    print(f"statistics of {items:,} items in {len(WAYS)} ways: {compared - start:.2f} s")
    print(f"report: {written - compared:.2f} s")
    for name, size in sizes.items():
        print(f"  {name}: {size / 1e6:.2f} MB")
    return {"report_seconds": written - start}


def main() -> None:
    """Measures, and with --json prints one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measure(asked.items)
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
