"""Stage `compare`: all evaluations of a recipe side by side, its gates, its report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.compare import compare
from eval.costs import Cost
from eval.gates import Gate
from eval.known_items import read_known
from eval.learning_curve import learning_curve, read_points
from eval.model_facts import model_facts
from eval.record import read_losses, read_predictions, tables_in
from eval.report import write_report
from eval.results import ModelResult
from eval.stage import OWN
from eval.text.following import followers
from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.data.arrow import read_rows


class Compare:
    """Lays all evaluations of a recipe side by side and judges its gates."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: ``modelN`` (Report of evaluate or reference) in the order of config's models,
        ``trainedN`` (Model or Adapter) in that of its trainings, data.* (Dataset); ``risksN`` and
        ``generatedN`` (Report); of a learning curve ``curveN`` (Report) and the Datasets that its
        points name.
        """
        results = [
            result
            for index, about in enumerate(config["models"])
            if "not_asked" not in inputs[f"model{index}"].manifest.facts
            for result in read_results(inputs[f"model{index}"].path, about)
        ]
        comparison = compare(
            results,
            gates=[Gate(**gate) for gate in config["gates"]],
            contamination=read_known(a.path for r, a in inputs.items() if r.startswith("data.")),
            domain_suite=config["domain"],
            general_suite=config["general"],
            task_suite=config["task"],
            through_l1=config["through_l1"],
            beside=followers(_folders(inputs, "generated")),
            texts={OWN: texts_of(inputs)} if config["task"] == OWN else None,
            margin=config["margin"],
            confidence_bins=config["confidence_bins"],
            target_precision=config["target_precision"],
        )
        tree = {**comparison.to_json(), "not_asked": _not_asked(inputs)}
        if "curve" in config:
            tree["learning_curve"] = _curve(inputs, config["curve"], results, config["task"])
        pages = [_json(folder / "risks.json") for folder in _folders(inputs, "risks")]
        texts = [_json(folder / "generated.json") for folder in _folders(inputs, "generated")]
        if pages:
            tree["risks"] = pages
        if texts:
            tree["generated"] = [record for of_model in texts for record in of_model]
        own = [inputs[f"trained{i}"] for i, o in enumerate(config["trainings"])
               if o["role"] == "model"]  # fmt: skip
        model = model_facts(own)
        if "licence" in config:
            model["licence"] = config["licence"]
        told = {"model": model, "training": _trainings(inputs, config["trainings"])}
        facts = {**_facts(inputs), **told}
        write_report(tree, config["name"], facts, context.out)
        return {
            "verdict": tree["verdict"],
            "gates": {
                status: sum(gate["status"] == status for gate in tree["gates"])
                for status in ("pass", "fail", "undecided")
            },
        }


def _not_asked(inputs: Mapping[str, Artifact]) -> list[dict[str, str]]:
    """``arm`` and ``why`` of each rung that these rows or this base do not fit."""
    return [
        {"arm": a.manifest.config["name"], "why": a.manifest.facts["not_asked"]}
        for a in inputs.values()
        if "not_asked" in a.manifest.facts
    ]


def _folders(inputs: Mapping[str, Artifact], role: str) -> list[Path]:
    """Folders of ``roleN`` in the order of N."""
    named = [name for name in inputs if name.startswith(role)]
    return [inputs[f"{role}{index}"].path for index in range(len(named))]


def read_results(folder: Path, about: Mapping[str, Any]) -> Iterator[ModelResult]:
    """What one evaluation brought: its own arm, and arms that came along with it.

    Args:
        folder: of the Report.
        about: name, level, arm, role, seed.
    """
    costs = {suite: Cost(**cost) for suite, cost in _json(folder / "costs.json").items()}
    groups = folder / "groups.json"
    shared: dict[str, Any] = {
        **about,
        "seconds": _json(folder / "seconds.json"),
        "kinds": _json(folder / "kinds.json"),
        "clusters": _json(groups) if groups.is_file() else {},
        "costs": costs,
    }
    tables = _tables(folder)
    losses = {
        path.stem.removeprefix("losses-"): read_losses(path)
        for path in sorted(folder.glob("losses-*.jsonl"))
    }
    yield ModelResult(**{**shared, "losses": losses, **_of_arm(tables, "")})
    for arm in sorted({arm for _, _, arm in tables if arm}):
        yield ModelResult(**{**shared, "arm": arm, **_of_arm(tables, arm)})


def _tables(folder: Path) -> dict[tuple[str, str, str], Path]:
    """(split, suite, further arm or nothing) to the file of answers."""
    found = {}
    for split in ("predictions", "validation", "train"):
        for suite, arm, path in tables_in(folder, split):
            found[split, suite, arm] = path
    return found


def _of_arm(tables: Mapping[tuple[str, str, str], Path], arm: str) -> dict[str, Any]:
    """The answers of one arm; without a name those of the evaluation's own."""
    mine = {(split, suite): path for (split, suite, of), path in tables.items() if of == arm}
    return {
        "predictions": {
            suite: read_predictions(path)
            for (split, suite), path in mine.items()
            if split == "predictions"
        },
        "held_out": {
            split: read_predictions(mine[split, OWN])
            for split in ("validation", "train")
            if (split, OWN) in mine
        },
    }


def _curve(
    inputs: Mapping[str, Artifact],
    curve: Mapping[str, Any],
    results: Sequence[ModelResult],
    suite: str,
) -> dict[str, Any]:
    """The learning curve over the same items, which stand in the same clusters."""
    clusters = next((r.clusters[suite] for r in results if suite in r.clusters), None)
    return learning_curve(read_points(inputs, curve["points"]), curve["budget"], clusters)


def texts_of(inputs: Mapping[str, Artifact]) -> dict[str, str]:
    """Item to its text, of the recipe's own test rows."""
    datasets = [a for role, a in inputs.items() if role.startswith("data.")]
    return {
        row["example_id"]: row["text"]
        for artifact in datasets[:1]
        for row in read_rows(artifact.path / "test.arrow")
    }


def _facts(inputs: Mapping[str, Artifact]) -> dict[str, Any]:
    """What the page says beside the figures: where, with what, from which data."""
    data = [a for r, a in inputs.items() if r.startswith("data.")]
    first = next(iter(inputs.values()))
    packages = {k: v for a in inputs.values() for k, v in a.manifest.packages.items()}
    rungs = {
        a.manifest.config["name"]: dict(a.manifest.facts["reference"])
        for a in inputs.values()
        if a.manifest.stage == "reference" and "reference" in a.manifest.facts
    }
    return {
        # What was chosen for a rung, and how it was asked, belongs to its figures.
        **({"references": rungs} if rungs else {}),
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


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
