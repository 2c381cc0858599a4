"""`gradus eval --harness` from the command line; the harness's process is played."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from endpoint_case import Served, serving

from eval.answered import read_answered
from eval.harness import run
from eval.harness.run import Checkpoint, HarnessRun
from eval.journal import held
from eval.record import Prediction
from pipeline.core.artifact import Artifact
from pipeline.core.store import Store
from pipeline.data.arrow import SplitWriter

Gradus = Callable[..., Result]
Refusal = Callable[..., str]
Commit = Callable[..., Artifact]
FOUND = {
    "figures": {"acc,none": 0.5, "acc_stderr,none": 0.25, "f1,strict-match": 0.75},
    "items": 4, "shots": 5, "version": 1.0, "chat_template": False,
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What the harness is asked, instead of being asked."""
    seen: list[tuple[Any, dict[str, Any]]] = []

    def played(target: Any, tasks: Any, **more: Any) -> HarnessRun:
        seen.append((target, {"tasks": tuple(tasks), **more}))
        answer = Prediction("a", "pin", "pin", {"pin": -0.1, "card": -2.4}, None, 0.1, 9, 0)
        found = {task: FOUND for task in tasks}
        own = {"test": [answer]} if "test" in tasks else {}
        return HarnessRun("0.4.13", found, own, more["out"], 2.0)

    monkeypatch.setattr(run, "run_harness", played)
    return seen


@pytest.fixture
def model(store: Store, commit: Commit) -> Artifact:
    """A named model of the store, with nothing but its weights."""
    made = commit(store, "0" * 64, {"config.json": b"{}"})
    entry = {
        "name": "demo", "level": "L0", "objective": "pretrain", "base": None,
        "recipe": "demo.yaml", "rank": None, "keys": {"root": made.key}, "gates": {},
    }  # fmt: skip
    store.write_json("models/demo.json", entry)
    return made


def test_a_model_of_the_store_is_asked_as_its_checkpoint(
    gradus: Gradus, model: Artifact, asked: list[Any], tmp_path: Path
) -> None:
    result = gradus("eval", "demo", "--harness", "arc_easy,piqa", "--limit", "4")
    assert result.exit_code == 0, result.output
    target, wishes = asked[0]
    assert target == Checkpoint(model.path)
    assert (wishes["tasks"], wishes["limit"], wishes["suites"]) == (("arc_easy", "piqa"), 4, {})
    assert wishes["out"] == tmp_path / "store" / "evals" / "demo-arc_easy+piqa-harness"
    for words in ("arc_easy  acc", "0.5000", "0.2500", "f1 (strict-match)", "0.7500", "0.4.13"):
        assert words in result.stdout


def test_json_is_one_object_with_the_harnesss_figures(
    gradus: Gradus, model: Artifact, asked: list[Any]
) -> None:
    result = gradus("eval", "demo", "--harness", "piqa", "--json")
    tree = json.loads(result.stdout)
    assert tree["tasks"] == {"piqa": FOUND}
    assert Path(tree["folder"], "metrics.json").is_file()


def test_our_own_rows_become_a_folder_that_compare_reads(
    gradus: Gradus, model: Artifact, asked: list[Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert gradus("eval", "demo", "--harness", "test", "--out", out).exit_code == 0
    figures = json.loads((out / "metrics.json").read_text())["suites"]["test"]["arms"]
    assert figures["likelihood"]["figures"]["accuracy"]["estimate"] == 1.0
    assert gradus("compare", out, out).exit_code == 0


def test_own_rows_of_one_document_belong_together(
    gradus: Gradus, model: Artifact, asked: list[Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with SplitWriter(tmp_path / "test.arrow") as split:
        ids = {"input_ids": [1], "supervised": [0]}
        split.write([{"example_id": "a", "text": "", "label": "pin", "group": "d1", **ids}])
    found = Checkpoint(model.path), {"test": tmp_path}, "demo"
    monkeypatch.setattr("pipeline.eval_harness._checkpoint", lambda *_: found)
    out = tmp_path / "out"
    assert gradus("eval", "demo", "--harness", "test", "--out", out).exit_code == 0
    assert read_answered(out).tables[0].groups == {"a": "d1"}


def test_a_served_model_is_asked_by_its_address(gradus: Gradus, asked: list[Any]) -> None:
    with serving(Served()) as served:
        result = gradus("eval", served.url, "--harness", "piqa", "--concurrency", "3")
        assert result.exit_code == 0, result.output
        target, wishes = asked[0]
        assert (target.url, target.model, target.concurrency) == (served.url, "demo", 3)
        assert wishes["suites"] == {}


def test_models_of_one_name_at_two_addresses_have_a_folder_each(
    gradus: Gradus, asked: list[Any]
) -> None:
    with serving(Served()) as one, serving(Served()) as other:
        for served in (one, other, one):
            result = gradus("eval", served.url, "--harness", "piqa", "--earlier", "keep")
            assert result.exit_code == 0, result.output
    first, second, again = [wishes["out"] for _, wishes in asked]
    assert first == again != second
    assert first.name.startswith("demo-piqa-")
    assert {wishes["earlier"] for _, wishes in asked} == {"keep"}


def test_names_that_are_too_long_to_stand_in_a_folders_name_are_still_told_apart(
    gradus: Gradus, model: Artifact, asked: list[Any]
) -> None:
    many = [f"hendrycks_test_{number}" for number in range(9)]
    for tasks in ([*many, "a"], [*many, "b"]):
        assert gradus("eval", "demo", "--harness", ",".join(tasks)).exit_code == 0
    assert asked[0][1]["out"] != asked[1][1]["out"]


def test_two_runs_never_write_into_one_folder(
    gradus: Gradus, model: Artifact, asked: list[Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with held(out):
        result = gradus("eval", "demo", "--harness", "piqa", "--out", out)
    assert result.exit_code == 1
    assert "another `gradus eval` writes its answers here" in result.stderr
    assert asked == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("demo", "--arms", "generate"), "--arms: has no meaning beside --harness"),
        (("demo", "--earlier", "keep"), "--earlier: has no meaning beside --harness"),
        (("demo.yaml",), "--harness: asks one model; name it in the place of its recipe"),
        (("nobody",), "nobody: no such model"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    refusal: Refusal, model: Artifact, arguments: tuple[str, ...], words: str
) -> None:
    assert words in refusal("eval", *arguments, "--harness", "piqa")


def test_a_model_that_writes_nothing_is_refused(
    refusal: Refusal, store: Store, model: Artifact
) -> None:
    path = store.root / "models" / "demo.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "objective": "classify"}))
    assert "demo writes no text" in refusal("eval", "demo", "--harness", "piqa")
