"""A learning curve from recipe to report, on a ladder small enough to run whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.store import Store
from pipeline.data.arrow import read_rows
from tests.tiny_ladder import write_ladder

RECIPE = """\
name: tiny-curve
level: L2
base: l0.yaml
data:
  train: {path: task.jsonl, format: classification}
  validation: {carve: 0.2}
  test: {path: task-test.jsonl, format: classification}
train:
  {objective: [sft, classify], method: lora, lora_r: 2, global_batch_size: 8, max_steps: 3,
   learning_rate: 3.0e-3, max_length: 64, precision: fp32}
evaluate: {forgetting: false, learning_curve: {shares: [0.25], flipped: [0.25]}}
"""
ARMS = {"generate", "classifier", "tfidf_bayes", "tfidf_logreg"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """Recipe, store, and what the report tells."""
    folder = tmp_path_factory.mktemp("recipes")
    below = write_ladder(folder).with_name("l0.yaml")
    below.write_text(below.read_text().replace("max_steps: 12", "max_steps: 2"))
    recipe = folder / "curve.yaml"
    recipe.write_text(RECIPE)
    store = tmp_path_factory.mktemp("store")
    told = run(recipe, store)
    page = Path(told["report"])
    assert "(Ng and Jordan 2001)" in page.read_text(encoding="utf-8")
    return recipe, store, json.loads(page.with_name("report.json").read_text())


def run(recipe: Path, store: Path) -> Any:
    environment = {**os.environ, "GRADUS_STORE": str(store), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "run", str(recipe), "--json"],
        env=environment, text=True, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_rung_was_asked_or_tells_why_not(made: Any) -> None:
    """The recipe names none."""
    told = made[2]
    asked = {row["arm"] for row in told["comparison"]["arms"] if row["role"] == "reference"}
    left = {row["arm"]: row["why"] for row in told["comparison"]["not_asked"]}
    assert asked | set(left) == {"tfidf_bayes", "tfidf_logreg", "nearest", "zero_shot", "few_shot"}
    assert {"tfidf_bayes", "tfidf_logreg", "nearest"} <= asked
    assert not asked & set(left)


def test_every_form_stands_at_every_point_of_the_report(made: Any) -> None:
    _, _, report = made
    curve = report["comparison"]["learning_curve"]
    points = {(p["arm"], p["share"], p["flipped"]): p for p in curve["points"]}
    assert points.keys() == {
        (arm, share, flipped)
        for arm in ARMS
        for share, flipped in ((0.25, 0.0), (1.0, 0.0), (1.0, 0.25))
    }
    # 60 rows, 12 of them carved, of three classes: a quarter of 16 each.
    assert {point["rows"] for key, point in points.items() if key[1] == 0.25} == {12}
    assert {point["rows"] for key, point in points.items() if key[1] == 1} == {48}
    for word in ("3 updates", "Ng and Jordan", "25% of the training labels flipped"):
        assert any(word in line for line in curve["claims"])


def test_trained_rows_are_those_that_the_point_says(made: Any) -> None:
    _, root, _ = made
    store = Store(root)
    trained = {a.manifest.run["node"]: a for a in store.all() if a.manifest.kind == "Adapter"}
    for form in ("sft", "classify"):
        few = trained[f"tiny-curve/curve.train.{form}.share0.25.seed1"]
        wrong = trained[f"tiny-curve/curve.train.{form}.flipped0.25.seed1"]
        whole = trained[f"tiny-curve/train.{form}.seed1"]
        rows = [
            {
                row["example_id"]: row["label"]
                for row in read_rows(
                    store.need(a.manifest.inputs["data"]["key"]).path / "train.arrow"
                )
            }
            for a in (few, wrong, whole)
        ]
        assert Counter(rows[0].values()) == dict.fromkeys(set(rows[2].values()), 4)
        assert rows[0].items() <= rows[2].items()
        assert sum(rows[1][name] != label for name, label in rows[2].items()) == 12
        assert {a.manifest.facts["updates"] for a in (few, wrong, whole)} == {3}


def test_a_second_run_of_a_curve_runs_nothing(made: Any) -> None:
    recipe, store, _ = made
    assert run(recipe, store)["ran"] == 0
