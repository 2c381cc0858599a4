"""Every objective from recipe to report on a ladder small enough to run whole."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.store import Store

TOPICS = {"rain": ["wind", "cloud", "storm"], "ship": ["rope", "sail", "crane"]}
L0 = """\
name: tiny-l0
level: L0
scratch:
  {vocab_size: 300, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2,
   num_key_value_heads: 1, intermediate_size: 32, max_position_embeddings: 128}
data: {train: {path: text.jsonl}, validation: {carve: 0.2}, test: {path: text-test.jsonl}}
train:
  {objective: pretrain, method: full, max_length: 32, global_batch_size: 4, max_steps: 2,
   learning_rate: 3.0e-3, precision: fp32}
"""
TASK = """\
name: tiny-{name}
level: L2
base: l0.yaml
data:
  train: {{path: {name}.jsonl, format: {form}}}
  validation: {{carve: 0.2}}
  test: {{path: {name}-test.jsonl, format: {form}}}
  features: [{features}]
train:
  {{objective: {objective}, method: lora, lora_r: 2, global_batch_size: 4, max_steps: 3,
   learning_rate: 3.0e-3, max_length: 96, precision: fp32}}
evaluate: {{forgetting: false, suites: {{{suites}}}}}
gates: [{gates}]
"""


@dataclass(frozen=True)
class Case:
    """One objective: its rows, and what must come of it."""

    objective: str
    form: str
    rows: Callable[[random.Random, int], dict[str, Any]]
    models: tuple[str, ...]
    kinds: tuple[str, ...]
    gates: str = ""
    suites: str = ""
    features: str = ""


def sentence(rng: random.Random, topic: str, length: int = 6) -> str:
    return " ".join(rng.choice([*TOPICS[topic], "the", "a"]) for _ in range(length))


def general(rng: random.Random) -> str:
    """Of other words than every task: a base must not have read a test row."""
    return " ".join(rng.choice(["pan", "knife", "oven", "spoon", "salt", "of"]) for _ in range(8))


def labelled(rng: random.Random, index: int) -> dict[str, Any]:
    topic = sorted(TOPICS)[index % 2]
    return {"text": sentence(rng, topic), "label": topic}


def many_labelled(rng: random.Random, index: int) -> dict[str, Any]:
    found = [topic for place, topic in enumerate(sorted(TOPICS)) if (index + 1) >> place & 1]
    return {"text": " ".join(sentence(rng, t, 4) for t in found) or "the a", "labels": found}


def preferred(rng: random.Random, index: int) -> dict[str, Any]:
    topic, other = sorted(TOPICS)[:: 1 if index % 2 else -1]
    return {"prompt": sentence(rng, topic), "chosen": topic, "rejected": other}


def tagged(rng: random.Random, _index: int) -> dict[str, Any]:
    words = sentence(rng, "ship").split()
    return {"tokens": words, "tags": ["B-gear" if w in TOPICS["ship"] else "O" for w in words]}


def valued(rng: random.Random, _index: int) -> dict[str, Any]:
    text = sentence(rng, "rain")
    return {"text": text, "value": 10.0 + text.count("storm")}


CASES = {
    "hybrid": Case(
        "hybrid", "classification", labelled, ("tiny-hybrid", "tiny-hybrid-classifier"), (),
        "{suite: test, metric: macro_f1, arm: classifier, at_least: 0}",
    ),
    "dpo": Case(
        "dpo", "preference", preferred, ("tiny-dpo",), ("label", "preference"),
        "{suite: test, metric: preference_accuracy, at_least: 0}",
        "asked: {path: hybrid-test.jsonl, format: classification}",
    ),
    "channel": Case(
        "channel", "classification", labelled, ("tiny-channel-channel",), ("channel",)
    ),
    "several": Case(
        "classify", "classification", many_labelled, ("tiny-several-classifier",), ("labels",),
        "{suite: test, metric: micro_f1, at_least: 0}",
        features="{name: winds, pattern: wind}",
    ),
    "tag": Case(
        "tag", "tagging", tagged, ("tiny-tag-tagger",), ("tags",),
        "{suite: test, metric: entity_f1, at_least: 0}",
    ),
    "regress": Case(
        "regress", "regression", valued, ("tiny-regress-regressor",), ("value",),
        "{suite: test, metric: mae, at_most: 1000}",
    ),
}  # fmt: skip
FIGURES = {
    "label": {"accuracy", "micro_f1", "macro_f1"},
    "preference": {"preference_accuracy", "preference_margin"},
    "channel": {"channel_loss"},
    "labels": {"accuracy", "micro_f1", "macro_f1"},
    "tags": {"entity_f1", "token_accuracy"},
    "value": {"mae", "rmse", "r2", "pearson", "spearman"},
}


def gradus(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GRADUS_STORE": str(store), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        env=environment, text=True, capture_output=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes and rows of every case, over one base."""
    rng, folder = random.Random(3), tmp_path_factory.mktemp("recipes")
    (folder / "l0.yaml").write_text(L0, encoding="utf-8")
    write(folder / "text.jsonl", [{"text": general(rng)} for _ in range(40)])
    write(folder / "text-test.jsonl", [{"text": general(rng)} for _ in range(4)])
    for name, case in CASES.items():
        write(folder / f"{name}.jsonl", [case.rows(rng, index) for index in range(40)])
        write(folder / f"{name}-test.jsonl", [case.rows(rng, index) for index in range(12)])
        text = TASK.format(name=name, form=case.form, objective=case.objective, gates=case.gates,
                           suites=case.suites,
                           features=case.features)  # fmt: skip
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that all cases share, so that the base is made once."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def made(folder: Path, store: Path) -> Callable[[str], dict[str, Any]]:
    """Runs a case once; what ``gradus run --json`` said of it."""
    done: dict[str, dict[str, Any]] = {}

    def run(name: str) -> dict[str, Any]:
        if name not in done:
            found = gradus(store, "run", str(folder / f"{name}.yaml"), "--json")
            assert found.returncode == 0, found.stderr
            done[name] = json.loads(found.stdout.splitlines()[-1])
        return done[name]

    return run


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_of_the_objective_runs_to_registered_models(
    name: str, made: Callable[[str], dict[str, Any]], store: Path
) -> None:
    case, summary = CASES[name], made(name)
    assert tuple(summary["models"][: len(case.models)]) == case.models
    for model in case.models:
        entry = Store(store).model(model)
        assert entry is not None
        assert entry["objective"] == case.objective
        assert {"root", "adapter", "report"} <= set(entry["keys"])


@pytest.mark.parametrize("name", CASES)
def test_its_report_has_the_figures_of_the_objective(
    name: str, made: Callable[[str], dict[str, Any]]
) -> None:
    case, summary = CASES[name], made(name)
    report = Path(summary["report"]).with_name("report.json")
    tree = json.loads(report.read_text(encoding="utf-8"))["comparison"]
    # Rungs that nobody trains stand beside it.
    own = [task for task in tree["tasks"] if task["name"] in case.models]
    assert tuple(task["kind"] for task in own) == case.kinds
    for task in own:
        assert set(task["figures"]) == FIGURES[task["kind"]]
        assert (task["items"], task["name"]) == (12, case.models[0])
        first = next(iter(task["figures"].values()))
        assert first["low"] <= first["estimate"] <= first["high"]
    assert [gate["status"] for gate in tree["gates"]] == ["pass"] * bool(case.gates)


def test_hybrid_is_judged_in_both_forms_from_one_set_of_weights(
    made: Callable[[str], dict[str, Any]], store: Path
) -> None:
    summary = made("hybrid")
    assert set(summary["heads"]) == {"generative", "classifier"}
    writer, classifier = (Store(store).model(name) for name in CASES["hybrid"].models)
    assert writer is not None
    assert classifier is not None
    assert writer["keys"]["adapter"] == classifier["keys"]["adapter"]
    assert (Store(store).path_of(writer["keys"]["adapter"]) / "head.safetensors").is_file()
    assert "bundle" in writer["keys"]
    assert "bundle" not in classifier["keys"]


def test_all_that_was_made_is_whole(made: Callable[[str], dict[str, Any]], store: Path) -> None:
    for name in CASES:
        made(name)
    found = gradus(store, "verify", "--json")
    assert found.returncode == 0, found.stdout + found.stderr
    tree = json.loads(found.stdout)
    assert tree["problems"] == []
    # Of each case at least rows, training, export, evaluation and comparison.
    assert tree["artifacts"] >= 5 * len(CASES)
