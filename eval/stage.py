"""Stage `evaluate`: one model, asked in one way, on its suites."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.calibration import temperature_of
from eval.costs import Cost, Meter
from eval.drawing import drawn
from eval.journal import Journal
from eval.loaded import Loaded, PairLosses
from eval.record import Prediction, TextLoss, write_losses, write_predictions
from eval.suite import Suite, shared_by
from pipeline.core.arms import ARMS
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.core.stage import StageContext

OWN = "test"
"""The suite of the recipe's own rows; its Dataset holds train and validation too."""

_SUITE = "suite."
Table = list[Prediction]


class Evaluate:
    """Judges one model: losses on text suites, answers on task suites."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Asks every suite, and on the recipe's own rows validation and some of train as well.

        Inputs: root (Model), adapter (stacked, optional), ``suite.NAME`` (Dataset), ``data``
        (Dataset that the model was trained on, for the prior of a joint arm); for preferences
        ``below.root`` and ``below.adapter``, the model that they are measured from; ``labels``
        (Dataset): whose labels there are, where a suite may hold some of them only.

        What was answered before the process died is not asked again: it lies in the journal.
        """
        suites = {
            role.removeprefix(_SUITE): Suite.read(role.removeprefix(_SUITE), artifact)
            for role, artifact in sorted(inputs.items())
            if role.startswith(_SUITE)
        }
        known = config.get("labels") or (
            _json(inputs["labels"].path / "labels.json") if "labels" in inputs else None
        )
        suites = {n: s.narrowed(n, known, config.get("limit")) for n, s in suites.items()}
        began = time.monotonic()
        below = _below(suites, inputs, config, context)
        loaded = Loaded(inputs["root"], inputs.get("adapter"), config, context)
        data = inputs["data"].path if "data" in inputs else None
        asked = Asked(loaded, config["arm"], data, context)
        told: dict[str, dict[str, Any]] = {"looks": {}, "kinds": {}, "costs": {}, "groups": {}}
        for name, suite in suites.items():
            with _placed(name):
                found = asked.suite(name, suite, below.get(name), config["train_items"])
                found.write(context.out, name, config["arm"])
            if found.kind is not None:
                told["kinds"][name] = found.kind
            if found.cost is not None:
                told["costs"][name] = asdict(found.cost)
            if suite.groups:
                told["groups"][name] = suite.groups
            if "train" in found.held_out:
                told["groups"]["train"] = shared_by(suite.held_out("train"))
            digest = inputs[_SUITE + name].manifest.files["test.arrow"]
            told["looks"][name] = context.count_look(digest, inputs["root"].key[:12])
        seconds = {"evaluate": round(time.monotonic() - began, 2)}
        trained = inputs.get("trained", inputs["root"])
        if "train_seconds" in trained.manifest.facts:
            seconds["train"] = trained.manifest.facts["train_seconds"]
        _write_json(context.out / "seconds.json", seconds)
        for name in ("kinds", "costs", "groups"):
            _write_json(context.out / f"{name}.json", told[name])
        return {"looks_at_test": told["looks"]}


@dataclass(frozen=True)
class Found:
    """What a model made of one suite: losses of its texts, or answers to its items.

    Attributes:
        kind: of the task, as ``eval.record`` names it; None of plain text.
        answers: arm to the answers of the test split.
        held_out: split to arm to answers, of `validation` and `train`.
    """

    kind: str | None
    losses: list[TextLoss] | None = None
    answers: Mapping[str, Table] = field(default_factory=dict)
    held_out: Mapping[str, Mapping[str, Table]] = field(default_factory=dict)
    cost: Cost | None = None

    def write(self, out: Path, suite: str, main: str) -> None:
        """Writes what there is, under the suite's name; of a further arm with its own behind."""
        if self.losses is not None:
            write_losses(out / f"losses-{suite}.jsonl", self.losses)
        for split, tables in {"predictions": self.answers, **self.held_out}.items():
            for arm, answers in tables.items():
                name = suite if arm == main else f"{suite}@{arm}"
                write_predictions(out / f"{split}-{name}.jsonl", answers)
        if "validation" in self.held_out:
            found = {arm: temperature_of(of) for arm, of in self.held_out["validation"].items()}
            _write_json(out / "temperatures.json", found)


class Asked:
    """One model, asked in one way; remembers on disk what was answered."""

    def __init__(self, loaded: Loaded, arm: str, data: Path | None, context: StageContext) -> None:
        """Takes a model in memory.

        Args:
            arm: the way of asking.
            data: the Dataset that the model was trained on.
        """
        self.loaded, self.arm, self.data, self.context = loaded, arm, data, context

    def suite(self, name: str, suite: Suite, below: PairLosses | None, train_items: int) -> Found:
        """One suite; pairs are measured from ``below``.

        Args:
            train_items: training rows that are asked too, drawn by seed 0.
        """
        if suite.render == "text":
            return Found(None, self.loaded.losses(suite.rows))
        if self.arm == "channel":
            return Found("channel", self.loaded.answer_losses(suite.rows))
        if below is not None:
            of_pairs, answers = self.loaded.preferred(suite.rows, below)
            return Found(of_pairs, answers={self.arm: answers})
        kind, tables, cost = self._answers(f"{name}-test", suite, suite.rows)
        held_out = {}
        if name == OWN and kind == "label":
            held_out = self._held_out(suite, train_items)
        return Found(kind, answers=tables, held_out=held_out, cost=cost)

    def _held_out(self, suite: Suite, train_items: int) -> dict[str, dict[str, Table]]:
        """Validation for temperatures and thresholds, training rows for the gap to test."""
        wanted: dict[str, list[dict[str, Any]]] = {}
        # Without labels there is nothing to calibrate and no right or wrong of a whole answer.
        if ARMS[self.arm].scores:
            wanted["validation"] = suite.held_out("validation")
        if suite.labels:
            wanted["train"] = drawn(suite.held_out("train"), train_items)
        return {
            split: self._answers(f"{OWN}-{split}", suite, rows)[1]
            for split, rows in wanted.items()
            if rows
        }

    def _answers(
        self, name: str, suite: Suite, rows: Sequence[Mapping[str, Any]]
    ) -> tuple[str, dict[str, Table], Cost | None]:
        """Kind, answers by arm in the rows' order, and what they cost."""
        arms = [self.arm, *(by for by, info in ARMS.items() if info.along == self.arm)]
        journals = {
            arm: Journal(self.context.work / f"{name}@{arm}.jsonl", f"{name}@{arm}") for arm in arms
        }
        done = set.intersection(*({*journal.done()} for journal in journals.values()))
        left = [row for row in rows if row["example_id"] not in done]
        meter = Meter("cuda" if self.loaded.device.type == "cuda" else "cpu")

        def on_done(found: Mapping[str, Sequence[Prediction]]) -> None:
            # Last the arm that counts the cost: it ends the batch.
            for arm in reversed(arms):
                cost = meter.spent(found[arm]) if arm == self.arm else None
                journals[arm].add(found[arm], cost)

        if left:
            self.loaded.answers(
                left, suite.labels, arm=self.arm, data=suite.folder, train=self.data,
                on_done=on_done,
            )  # fmt: skip
        tables = {}
        for arm, journal in journals.items():
            answered = journal.done()
            tables[arm] = [answered[row["example_id"]] for row in rows]
        return self.loaded.kind(self.arm), tables, journals[self.arm].cost


def _below(
    suites: Mapping[str, Suite],
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
