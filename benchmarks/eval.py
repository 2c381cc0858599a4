"""The evaluation benchmarks: likelihood of labels, lm-evaluation-harness, statistics and report.

python -m benchmarks.eval [--json] [--rows N] [--turns N]

Both sides of each ratio are measured in this run, on the same items with the same model.
"""

from __future__ import annotations

import argparse
import json

from benchmarks import eval_harness, eval_labels, eval_report

TARGETS = {
    "label_likelihood_speedup": (5.0, "at least"),
    "lm_eval_speedup": (1.5, "at least"),
    "report_seconds": (20.0, "at most"),
}


def main() -> None:
    """Measures everything, prints tables, and with --json one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=eval_labels.ROWS, help="prompts to score")
    parser.add_argument("--turns", type=int, default=eval_labels.TURNS, help="turns of each side")
    asked = parser.parse_args()
    found = {
        **eval_labels.measure(asked.rows, asked.turns),
        **eval_harness.measure(),
        **eval_report.measure(),
    }
    figures = {name: float(found[name]) for name in TARGETS}
    for name, value in figures.items():
        limit, word = TARGETS[name]
        print(f"{name}: {value:.3f} ({word} {limit:g})")
    if asked.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
