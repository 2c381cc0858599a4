"""A tiny model and its prepared rows, made once: the stages themselves, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.core.store import Store
from pipeline.ladder import make_plan
from pipeline.process import Job, make
from tests.tiny_ladder import write_ladder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Artifact]:
    """Node id to artifact: the L0's random weights, and the rows of the L2's three objectives."""
    folder = tmp_path_factory.mktemp("risks")
    recipe = write_ladder(folder / "recipes")
    store = Store(folder / "store")
    settings = ["data.train.licence=CC0-1.0", "train.objective=[sft, classify, channel]"]
    plan = make_plan(recipe, store, settings)
    found: dict[str, Artifact] = {}
    for node in plan.nodes.values():
        if node.stage in ("scratch", "prepare"):
            inputs = {role: found[i].key for role, i in node.inputs.items()}
            job = Job(
                node.id, node.stage, node.key or "", dict(node.config), inputs,
                {role: str(path) for role, path in node.files.items()},
                {**node.options, "threads": 1}, str(store.root),
            )  # fmt: skip
            found[node.id] = make(job, lambda _event: None)
    return found


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., StageContext]:
    """A stage's context with given files."""

    def new(**files: Path) -> StageContext:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        work = out / "work"
        work.mkdir(parents=True)
        return StageContext(out, work, {"batch_size": 16}, files, lambda _event: None)

    return new


@pytest.fixture(scope="session")
def headed(made: Mapping[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The L0's random weights with a random head for the L2's labels in the same folder."""
    import json

    import torch

    from pipeline.modeling.heads import HeadConfig, new_classifier, save_head
    from pipeline.modeling.loading import load_model, load_tokenizer, save_model

    root, data = made["tiny-l0/scratch"], made["tiny-task/prepare.classify"]
    model, tokenizer = load_model(root.path), load_tokenizer(root.path)
    out = tmp_path_factory.mktemp("headed")
    save_model(model, tokenizer, out)
    labels = tuple(json.loads((data.path / "labels.json").read_text()))
    config = HeadConfig(labels, "last", 0.0, model.config.hidden_size)
    classifier = new_classifier(model, config, seed=1)
    with torch.no_grad():
        save_head(classifier, classifier.score.weight * 20, out)
    return Artifact(out, replace(root.manifest, key="headed"))


@pytest.fixture
def page(
    made: Mapping[str, Artifact], context: Callable[..., StageContext]
) -> Callable[..., list[dict[str, Any]]]:
    """Runs stage `risks` and gives its lines."""
    import json

    from eval.risks.stage import FILE, Risks

    def run(root: Artifact, data: Artifact, arm: str, **files: Path) -> list[dict[str, Any]]:
        place = context(**files)
        config = {
            "name": "tiny", "arm": arm, "max_new_tokens": 16, "answer_after": None, "items": 12,
            "seed": 0, "price_per_hour": 2.0,
        }  # fmt: skip
        facts = Risks().run({"root": root, "data": data, "suite.test": data}, config, place)
        tree = json.loads((place.out / FILE).read_text())
        assert tree["name"] == "tiny"
        assert facts["measured"] + facts["not_measured"] == len(tree["lines"])
        return list(tree["lines"])

    return run
