"""Stage `judge-export`: a model in fewer bits against itself before, on the same items."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from eval.compare import gate_json
from eval.compare_stage import read_results
from eval.gates import UNQUANTISED, Gate, GateResult
from eval.judging import judged
from eval.results import (
    LABELLED,
    ModelResult,
    check_same_items,
    clusters_in_order,
    correct_table,
    losses_in_order,
)
from eval.statistics import loss_interval, mean_interval
from eval.tasks import told
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.core.stage import StageContext


class JudgeExport:
    """Judges what an export promises: it loses less than was allowed, on every suite."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: exported, unquantised (Reports of evaluate).

        Raises:
            DataError: nothing was measured that fewer bits could be judged by.
        """
        about = {name: config[name] for name in ("name", "level", "arm", "seed")}
        after, before = (
            next(read_results(inputs[side].path, {**about, "role": role}))
            for side, role in (("exported", "model"), ("unquantised", UNQUANTISED))
        )
        check_same_items([after, before])
        results = [result for gate in _gates(after, config)
                   for result in judged(gate, [after, before], contamination=0)]  # fmt: skip
        if not results:
            raise DataError(
                f"export: {config['name']} answered no labels and read no texts, so nothing tells "
                "what fewer bits cost; give data.test"
            )
        tree = {
            "title": config["name"],
            "comparison": {"gates": [_json(result) for result in results]},
            "figures": [*_figures(after, before)],
            "arm": config["arm"],
        }
        text = json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False)
        (context.out / "report.json").write_text(text + "\n", encoding="utf-8")
        return {"gates": {result.gate.suite: result.status for result in results}}


def _gates(after: ModelResult, config: Mapping[str, Any]) -> Iterator[Gate]:
    for suite in sorted(after.predictions):
        if after.kind(suite) in LABELLED:
            yield Gate(
                suite, "accuracy", config["arm"], UNQUANTISED, not_worse_by=config["not_worse_by"]
            )
    for suite in sorted(after.losses):
        yield Gate(suite, "loss", against=UNQUANTISED, at_most_ratio=config["at_most_ratio"])


def _json(result: GateResult) -> dict[str, Any]:
    tree = gate_json(result)
    # Beside the recipe's own gates it must say of what it is.
    return {**tree, "text": f"export: {tree['text']}"}


def _figures(after: ModelResult, before: ModelResult) -> Iterator[dict[str, Any]]:
    """Each suite's figure of both, for the card."""
    for suite in sorted(after.predictions):
        if after.kind(suite) in LABELLED:
            clusters = clusters_in_order(after, suite)
            sides = [told(mean_interval(correct_table([r], suite), clusters))
                     for r in (after, before)]  # fmt: skip
            yield {
                "suite": suite, "metric": "accuracy", "exported": sides[0], "unquantised": sides[1],
                "items": len(after.predictions[suite]),
            }  # fmt: skip
    for suite in sorted(after.losses):
        sides = [told(loss_interval(losses_in_order(r, suite), np.random.default_rng(0)))
                 for r in (after, before)]  # fmt: skip
        yield {
            "suite": suite, "metric": "loss", "exported": sides[0], "unquantised": sides[1],
            "items": len(after.losses[suite]),
        }  # fmt: skip
