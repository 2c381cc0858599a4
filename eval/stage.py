"""Stages `evaluate` and `compare`: one model on its suites; all models against their gates."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.compare import ModelResult, compare
from eval.gates import Gate
from eval.known_items import read_known
from eval.loaded import Loaded, PairLosses
from eval.record import (
    Prediction,
    TextLoss,
    read_losses,
    read_predictions,
    write_losses,
    write_predictions,
)
from eval.report import write_report
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.core.stage import StageContext
from pipeline.data.arrow import read_rows

_SUITE = "suite."


class Evaluate:
    """Judges one model: losses on text suites, answers on task suites."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root (Model), adapter (stacked, optional), ``suite.NAME`` (Dataset); for
        preferences ``below.root`` and ``below.adapter``, the model that they are measured from."""
        suites = {
            role.removeprefix(_SUITE): _Suite.read(role.removeprefix(_SUITE), artifact)
            for role, artifact in sorted(inputs.items())
            if role.startswith(_SUITE)
        }
        looks: dict[str, int] = {}
        kinds: dict[str, str] = {}
        began = time.monotonic()
        below = _below(suites, inputs, config, context)
        loaded = Loaded(inputs["root"], inputs.get("adapter"), config, context)
        for name, suite in suites.items():
            with _placed(name):
                found = _ask(loaded, suite, config["arm"], below.get(name))
                found.write(context.out, name)
            if found.kind is not None:
                kinds[name] = found.kind
            digest = inputs[_SUITE + name].manifest.files["test.arrow"]
            looks[name] = context.count_look(digest, inputs["root"].key[:12])
        seconds = {"evaluate": round(time.monotonic() - began, 2)}
        trained = inputs.get("trained", inputs["root"])
        if "train_seconds" in trained.manifest.facts:
            seconds["train"] = trained.manifest.facts["train_seconds"]
        _write_json(context.out / "seconds.json", seconds)
        _write_json(context.out / "kinds.json", kinds)
        return {"looks_at_test": looks}


@dataclass(frozen=True)
class _Suite:
    """The test rows of a Dataset and how they were rendered."""

    rows: list[dict[str, Any]]
    render: str
    labels: list[str]

    @property
    def pairs(self) -> bool:
        """Whether each row has a chosen and a rejected answer."""
        asked = self.render == "preference"
        return asked and all(row["rejected_ids"] is not None for row in self.rows)

    @classmethod
    def read(cls, name: str, artifact: Artifact) -> _Suite:
        folder = artifact.path
        rows = read_rows(folder / "test.arrow")
        if not rows:
            raise DataError(f"evaluate: suite {name} has no test rows; give data.test")
        return cls(rows, _json(folder / "render.json")["render"], _json(folder / "labels.json"))


@dataclass(frozen=True)
class _Found:
    """What a model made of one suite: losses of its texts, or answers to its items.

    Attributes:
        kind: of the task, as ``eval.record`` names it; None of plain text.
    """

    kind: str | None
    losses: list[TextLoss] | None = None
    answers: list[Prediction] | None = None

    def write(self, out: Path, suite: str) -> None:
        """Writes what there is, under the suite's name."""
        if self.losses is not None:
            write_losses(out / f"losses-{suite}.jsonl", self.losses)
        if self.answers is not None:
            write_predictions(out / f"predictions-{suite}.jsonl", self.answers)


def _ask(loaded: Loaded, suite: _Suite, arm: str, below: PairLosses | None) -> _Found:
    """One suite, asked in one form; pairs are measured from ``below``."""
    if suite.render == "text":
        return _Found(None, loaded.losses(suite.rows))
    if arm == "channel":
        return _Found("channel", loaded.answer_losses(suite.rows))
    if below is not None:
        kind, answers = loaded.preferred(suite.rows, below)
    else:
        kind, found = loaded.answers(suite.rows, suite.labels, arm=arm)
        answers = found[arm]
    return _Found(kind, answers=answers)


def _below(
    suites: Mapping[str, _Suite],
    inputs: Mapping[str, Artifact],
    config: Mapping[str, Any],
    context: StageContext,
) -> dict[str, PairLosses]:
    """What the model below makes of the pairs; gone from memory before the judged one comes."""
    pairs = {name: suite for name, suite in suites.items() if suite.pairs}
    if not pairs:
        return {}
    model = Loaded(inputs["below.root"], inputs.get("below.adapter"), config, context)
    found = {}
    for name, suite in pairs.items():
        with _placed(name):
            found[name] = model.pair_losses(suite.rows)
    return found


@contextlib.contextmanager
def _placed(suite: str) -> Iterator[None]:
    """What is wrong with a row is told with its suite."""
    try:
        yield
    except DataError as error:
        raise DataError(f"evaluate: suite {suite}: {error}") from None


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, tree: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(tree), encoding="utf-8")


class Compare:
    """Lays all evaluations of a recipe side by side and judges its gates."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: ``modelN`` (Report of evaluate) in the order of config's models, ``trainedN``
        (Model or Adapter) in that of its trainings, data.* .
        """
        results = [
            _result(inputs[f"model{index}"], about) for index, about in enumerate(config["models"])
        ]
        comparison = compare(
            results,
            gates=[Gate(**gate) for gate in config["gates"]],
            contamination=read_known(a.path for r, a in inputs.items() if r.startswith("data.")),
            domain_suite=config["domain"],
            general_suite=config["general"],
            task_suite=config["task"],
            through_l1=config["through_l1"],
        )
        tree = comparison.to_json()
        facts = {**_facts(inputs), "training": _trainings(inputs, config["trainings"])}
        write_report(tree, config["name"], facts, context.out)
        return {
            "verdict": tree["verdict"],
            "gates": {
                status: sum(gate["status"] == status for gate in tree["gates"])
                for status in ("pass", "fail", "undecided")
            },
        }


def _result(artifact: Artifact, about: Mapping[str, Any]) -> ModelResult:
    folder = artifact.path
    losses = {
        path.stem.removeprefix("losses-"): read_losses(path)
        for path in sorted(folder.glob("losses-*.jsonl"))
    }
    predictions = {
        path.stem.removeprefix("predictions-"): read_predictions(path)
        for path in sorted(folder.glob("predictions-*.jsonl"))
    }
    return ModelResult(
        **about,
        losses=losses,
        predictions=predictions,
        seconds=_json(folder / "seconds.json"),
        kinds=_json(folder / "kinds.json"),
    )


def _facts(inputs: Mapping[str, Artifact]) -> dict[str, Any]:
    """What the page says beside the figures: where, with what, from which data."""
    data = [a for r, a in inputs.items() if r.startswith("data.")]
    first = next(iter(inputs.values()))
    packages = {k: v for a in inputs.values() for k, v in a.manifest.packages.items()}
    return {
        "hardware": first.manifest.run["hardware"],
        "packages": packages,
        "data": {a.manifest.run["node"]: dict(a.manifest.facts) for a in data},
        "looks_at_test": {
            a.manifest.run["node"]: a.manifest.facts["looks_at_test"]
            for r, a in inputs.items()
            if r.startswith("model")
        },
        "made_from": {a.manifest.run["node"]: a.digest[:16] for a in inputs.values()},
    }


def _trainings(
    inputs: Mapping[str, Artifact], about: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What the curves are drawn from: history lies with the model, speed in its manifest."""
    found = []
    for index, one in enumerate(about):
        artifact = inputs[f"trained{index}"]
        facts, config = artifact.manifest.facts, artifact.manifest.config
        lines = (artifact.path / "history.jsonl").read_text(encoding="utf-8").splitlines()
        found.append(
            {
                **one,
                "history": [json.loads(line) for line in lines if line],
                "speed": facts.get("speed", []),
                "tokens_per_s": facts.get("tokens_per_s"),
                "kept": facts.get("best_step") if config.get("load_best_model_at_end") else None,
            }
        )
    return found
