"""Stages `evaluate` and `compare`: one model on its suites; all models against their gates."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.compare import ModelResult, compare
from eval.gates import Gate
from eval.known_items import read_known
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
        """Inputs: root (Model), adapter (stacked, optional), ``suite.NAME`` (Dataset)."""
        loaded = _Loaded(inputs, config, context)
        looks: dict[str, int] = {}
        began = time.monotonic()
        for role in sorted(r for r in inputs if r.startswith(_SUITE)):
            name = role.removeprefix(_SUITE)
            folder = inputs[role].path
            rows = read_rows(folder / "test.arrow")
            if not rows:
                raise DataError(f"evaluate: suite {name} has no test rows; give data.test")
            render = json.loads((folder / "render.json").read_text(encoding="utf-8"))["render"]
            try:
                if render == "text":
                    write_losses(context.out / f"losses-{name}.jsonl", loaded.losses(rows))
                else:
                    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
                    answers = loaded.answers(rows, labels)
                    write_predictions(context.out / f"predictions-{name}.jsonl", answers)
            except DataError as error:
                raise DataError(f"evaluate: suite {name}: {error}") from None
            digest = inputs[role].manifest.files["test.arrow"]
            looks[name] = context.count_look(digest, inputs["root"].key[:12])
        seconds = {"evaluate": round(time.monotonic() - began, 2)}
        trained = inputs.get("trained", inputs["root"])
        if "train_seconds" in trained.manifest.facts:
            seconds["train"] = trained.manifest.facts["train_seconds"]
        (context.out / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
        return {"looks_at_test": looks}


class _Loaded:
    """A model in memory, as it is served: the root with its one adapter."""

    def __init__(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> None:
        import torch

        from pipeline.modeling.adapters import attach_frozen, merge_into
        from pipeline.modeling.loading import load_model, load_tokenizer

        root = inputs["root"].path
        self.config, self.context = config, context
        self.batch_size = int(context.options["batch_size"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self.device.type == "cuda"
        self.model = load_model(root, bf16_weights=on_gpu)
        self.tokenizer = load_tokenizer(root)
        self.head = inputs["adapter"].path if "adapter" in inputs else root
        if "adapter" in inputs and on_gpu:
            # bf16 weights would round a merged update away: it stays beside them, as served.
            self.model = attach_frozen(self.model, self.head)
        elif "adapter" in inputs:
            merge_into(self.model, self.head)
        self.model.to(self.device).eval()

    def losses(self, rows: Sequence[Mapping[str, Any]]) -> list[TextLoss]:
        """Negative log-likelihood of each document."""
        from eval.likelihood import text_losses

        limit = getattr(self.model.config, "max_position_embeddings", 512)
        return text_losses(
            self.model,
            rows,
            batch_size=self.batch_size,
            max_length=min(limit, 512),
            pad_id=self.tokenizer.pad_token_id or 0,
            on_progress=self._progress,
        )

    def answers(self, rows: Sequence[Mapping[str, Any]], labels: list[str]) -> list[Prediction]:
        """One answer for each row, by head or in writing."""
        if self.config["arm"] == "classifier":
            return self._classified(rows)
        from eval.predictors import GenerativePredictor

        # A wrong answer may be any label of the data, so those of train count too.
        predictor = GenerativePredictor(
            self.model,
            self.tokenizer,
            labels=labels or None,
            answer_after=self.config["answer_after"],
            stop_ids=_stop_ids(self.model, self.tokenizer),
            pad_id=self.tokenizer.pad_token_id or 0,
            max_new_tokens=self.config["max_new_tokens"],
            batch_size=self.batch_size,
        )
        asked = [{**row, "prompt_ids": prompt_ids(row)} for row in rows]
        return predictor.predict(asked, on_progress=self._progress)

    def _classified(self, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        from eval.predictors import ClassifierPredictor
        from pipeline.modeling.heads import load_classifier

        classifier = load_classifier(self.model, self.head).to(self.device).eval()

        def scores(ids: Any, mask: Any) -> Any:
            return classifier(ids.to(self.device), mask.to(self.device)).cpu()

        predictor = ClassifierPredictor(
            scores,
            labels=classifier.config.labels,
            batch_size=self.batch_size,
            pad_id=self.tokenizer.pad_token_id or 0,
        )
        return predictor.predict(rows, on_progress=self._progress)

    def _progress(self, done: int, total: int) -> None:
        self.context.progress({"step": done, "total": total})


def prompt_ids(row: Mapping[str, Any]) -> list[int]:
    """The ids that serving makes of a prepared test row's question.

    Not all before the first supervised token: where the template itself opens an answer with
    an empty thought, serving leaves that to the model.

    Raises:
        DataError: the row was prepared before that was kept, or for a classifier.
    """
    if row.get("prompt") is None:
        raise DataError(
            f"{row['example_id']}: it does not say where its question ends; prepare the data again"
        )
    return list(row["input_ids"][: row["prompt"]])


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    stops = model.generation_config.eos_token_id
    found = list(stops) if isinstance(stops, list) else [stops]
    return sorted({i for i in [*found, tokenizer.eos_token_id] if i is not None})


class Compare:
    """Lays all evaluations of a recipe side by side and judges its gates."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: ``modelN`` (Report of evaluate) in the order of config's models, data.* ."""
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
        write_report(tree, config["name"], _facts(inputs), context.out)
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
    seconds = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
    return ModelResult(**about, losses=losses, predictions=predictions, seconds=seconds)


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


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of a compare artifact."""
    tree: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return tree
