"""Stage `evaluate`: every split in its own file, costs, groups, and nothing asked twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.compare_stage import read_results
from eval.loaded import Loaded
from eval.record import Prediction
from eval.results import ModelResult
from eval.stage import Evaluate
from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.data.arrow import read_rows
from tests.data.preparing import prepare, tiny_model

LABELS = ["card", "card_arrival", "pin"]


def rows(split: str, number: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{split}{n}",
            "text": f"{split} {n} sails",
            "label": LABELS[n % 3],
            "doc_id": f"d{n // 2}",
        }
        for n in range(number)
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_model(tmp_path_factory.mktemp("stage") / "root")


@pytest.fixture(scope="module")
def data(base: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    carve = {"carve": 0.2, "by": None, "time": None, "seed": 1}
    splits = {"train": rows("train", 30), "test": rows("test", 20)}
    made, _ = prepare(
        tmp_path_factory.mktemp("data") / "set", base, splits, {}, {"format": "classification"},
        render="sft", carve=carve, contamination="report",
    )  # fmt: skip
    files = {"test.arrow": "digest"}
    return replace(made, manifest=replace(made.manifest, files=files))


def evaluated(
    folder: Path,
    base: Artifact,
    data: Artifact,
    arm: str,
    progress: Callable[[Mapping[str, Any]], None] = lambda _event: None,
    **more: Any,
) -> list[ModelResult]:
    """One evaluation in ``folder``, whose journal stays from the one before."""
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    config = {"arm": arm, "max_new_tokens": 16, "answer_after": None, "train_items": 7, **more}
    context = StageContext(out, work, {"batch_size": 3}, {}, progress)
    Evaluate().run({"root": base, "suite.test": data}, config, context)
    about = {"name": "m", "level": "L0", "arm": arm, "role": "model", "seed": 1}
    return list(read_results(out, about))


def bare(prediction: Prediction) -> Prediction:
    return replace(prediction, latency_s=0.0)


def test_likelihood_brings_its_mean_along_on_every_split(
    base: Artifact, data: Artifact, tmp_path: Path
) -> None:
    found = evaluated(tmp_path, base, data, "likelihood")
    assert [result.arm for result in found] == ["likelihood", "likelihood_mean"]
    names = {
        split: [row["example_id"] for row in read_rows(data.path / f"{split}.arrow")]
        for split in ("train", "validation", "test")
    }
    for result in found:
        assert [p.example_id for p in result.predictions["test"]] == names["test"]
        assert [p.example_id for p in result.held_out["validation"]] == names["validation"]
        drawn = [p.example_id for p in result.held_out["train"]]
        assert len(drawn) == 7
        assert set(drawn) <= set(names["train"])
        cost = result.costs["test"]
        assert cost.items == len(names["test"])
        assert cost.cpu_s > 0
        assert cost.peak_bytes > 1 << 20
        assert cost.prompt_tokens == sum(p.prompt_tokens for p in result.predictions["test"])
    kept = json.loads((tmp_path / "out" / "temperatures.json").read_text())
    assert set(kept) == {"likelihood", "likelihood_mean"}
    assert all(told["items"] == len(names["validation"]) for told in kept.values())
    # Two rows share a document: intervals must know.
    assert (
        found[0].clusters["test"][names["test"][0]] == found[0].clusters["test"][names["test"][1]]
    )
    assert len(set(found[0].clusters["test"].values())) == 10
    assert set(found[0].clusters["train"].values()) <= {f"d{n}" for n in range(15)}


def test_a_free_writer_is_asked_train_too_and_needs_no_temperature(
    base: Artifact, data: Artifact, tmp_path: Path
) -> None:
    (found,) = evaluated(tmp_path, base, data, "generate", train_items=0)
    assert found.held_out == {}
    (found,) = evaluated(tmp_path / "more", base, data, "generate", train_items=1000)
    assert set(found.held_out) == {"train"}
    assert len(found.held_out["train"]) == len(read_rows(data.path / "train.arrow"))


def _killed_at(step: int) -> Callable[[Mapping[str, Any]], None]:
    def progress(event: Mapping[str, Any]) -> None:
        if event["step"] >= step:
            os.kill(os.getpid(), signal.SIGKILL)

    return progress


@pytest.mark.parametrize("arm", ["likelihood", "generate"])
def test_what_was_answered_before_a_kill_is_not_asked_again(
    base: Artifact, data: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    whole = evaluated(tmp_path / "whole", base, data, arm)
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=evaluated, args=(tmp_path / "torn", base, data, arm, _killed_at(9)))
    # What the child would say of threads of ours plays no part.
    torch.set_num_threads(1)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    (journal,) = (tmp_path / "torn" / "work").glob(f"test-test@{arm}-*.jsonl")
    kept = [row["example_id"] for line in journal.read_text().splitlines()[1:]
            for row in json.loads(line)["predictions"]]  # fmt: skip
    assert 0 < len(kept) < len(whole[0].predictions["test"])

    asked: list[str] = []
    answers = Loaded.answers

    def counted(self: Loaded, rows: Any, labels: Any, **given: Any) -> Any:
        asked.extend(row["example_id"] for row in rows)
        return answers(self, rows, labels, **given)

    monkeypatch.setattr(Loaded, "answers", counted)
    again = evaluated(tmp_path / "torn", base, data, arm)
    assert not set(asked) & set(kept)
    for ours, theirs in zip(again, whole, strict=True):
        pairs = zip(ours.predictions["test"], theirs.predictions["test"], strict=True)
        for one, other in pairs:
            assert replace(bare(one), scores=None) == replace(bare(other), scores=None)
            assert (one.scores or {}) == pytest.approx(other.scores or {}, abs=1e-5)
        assert ours.costs["test"].items == theirs.costs["test"].items
