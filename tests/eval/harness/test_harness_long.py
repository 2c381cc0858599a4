"""The harness itself, in its own environment: the same figures as ours on the same items."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from reference_case import context_in, make_base, make_data
from transformers import AutoModelForCausalLM

from eval.arms.scoring import score_pairs
from eval.harness import launch
from eval.harness.run import Checkpoint, HarnessRun, Served, run_harness
from eval.harness.suites import own_task
from eval.loaded import Loaded
from eval.record import Prediction
from eval.suite import Suite
from pipeline.core.artifact import Artifact
from pipeline.core.errors import EngineError, UserError

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_base(tmp_path_factory.mktemp("harness") / "base")


@pytest.fixture(scope="module")
def data(base: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_data(tmp_path_factory.mktemp("harness") / "data", base)


@pytest.fixture(scope="module")
def ran(base: Artifact, data: Artifact, tmp_path_factory: pytest.TempPathFactory) -> HarnessRun:
    out = tmp_path_factory.mktemp("harness") / "out"
    return run_harness(Checkpoint(base.path), ["test"], out=out, suites={"test": data.path})


def ours(base: Artifact, data: Artifact, folder: Path) -> list[Prediction]:
    config = {"arm": "likelihood", "max_new_tokens": 8, "answer_after": None}
    loaded = Loaded(base, None, config, context_in(folder))
    suite = Suite.read("test", data)
    _, found = loaded.answers(suite.rows, suite.labels, arm="likelihood", data=suite.folder)
    return found["likelihood"]


def test_log_likelihoods_are_equal_to_a_hundred_thousandth(
    base: Artifact, data: Artifact, ran: HarnessRun
) -> None:
    task = own_task("test", data.path, base.path, None)
    model = AutoModelForCausalLM.from_pretrained(str(base.path), dtype=torch.float32).eval()
    samples = {}
    for line in (ran.folder / "samples-gradus_test.jsonl").read_text().splitlines():
        sample = json.loads(line)
        sums = [float(one[0]) for one in sample["filtered_resps"]]
        samples[sample["doc"]["example_id"]] = sums
    assert len(samples) == len(task.rows) == 15
    for row in task.rows:
        pairs = [(row["prompt_ids"], ids) for ids in task.answers.values()]
        with torch.inference_mode():
            mine = score_pairs(model, pairs, batch_size=8, pad_id=0)
        assert samples[row["example_id"]] == pytest.approx(mine, rel=1e-5)


def test_answers_and_accuracy_are_those_of_arm_likelihood(
    base: Artifact, data: Artifact, ran: HarnessRun, tmp_path: Path
) -> None:
    mine = ours(base, data, tmp_path)
    theirs = ran.answers["test"]
    assert [(p.example_id, p.gold, p.label) for p in mine] == [
        (p.example_id, p.gold, p.label) for p in theirs
    ]
    assert len({round((p.scores or {})["harbour"], 3) for p in mine}) > 5
    accuracy = sum(p.label == p.gold for p in mine) / len(mine)
    assert ran.tasks["test"]["figures"]["acc,none"] == pytest.approx(accuracy)
    for one, other in zip(mine, theirs, strict=True):
        assert one.scores == pytest.approx(other.scores, rel=1e-4, abs=1e-5)


def test_a_run_that_was_killed_goes_on_and_a_finished_one_leaves_nothing(
    base: Artifact, data: Artifact, ran: HarnessRun, tmp_path: Path, monkeypatch: Any
) -> None:
    out, suites = tmp_path / "out", {"test": data.path}
    assert not (ran.folder / "known").exists()
    assert not any("was stopped" in note for note in ran.notes)

    def killed(process: Any, _log: Path, _progress: Any) -> int:
        for _ in range(12_000):
            if sum(answers_in(file) for file in (out / "known").glob("*.db")) > 15:
                break
            time.sleep(0.01)
        process.kill()
        return int(process.wait())

    with monkeypatch.context() as patched:
        patched.setattr(launch, "_watched", killed)
        with pytest.raises(EngineError, match="it ended with -9"):
            run_harness(Checkpoint(base.path), ["test"], out=out, suites=suites)
    (file,) = (out / "known").glob("*.db")
    before = answers_in(file)
    again = run_harness(Checkpoint(base.path), ["test"], out=out, suites=suites)
    assert again.notes == (f"{before} answers are of a run that was stopped before its end",)
    assert [p.scores for p in again.answers["test"]] == [p.scores for p in ran.answers["test"]]
    assert not (out / "known").exists()


def answers_in(file: Path) -> int:
    """Rows of the harness's cache; none while it is being made."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as found:
            return int(found.execute("SELECT count(*) FROM unnamed").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_a_task_of_the_users_own_is_a_yaml_file(base: Artifact, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"q": "the tide", "a": ["salt", "sail"], "gold": 1}\n' * 3)
    task = tmp_path / "tides.yaml"
    about = {
        "task": "tides", "dataset_path": "json", "test_split": "test",
        "dataset_kwargs": {"data_files": {"test": str(rows)}}, "output_type": "multiple_choice",
        "doc_to_text": "q", "doc_to_choice": "a", "doc_to_target": "gold",
    }  # fmt: skip
    task.write_text(yaml.safe_dump(about))
    made = run_harness(Checkpoint(base.path), [str(task)], out=tmp_path / "out", limit=2)
    assert made.tasks["tides"]["items"] == 2
    assert made.tasks["tides"]["figures"]["acc,none"] in (0.0, 1.0)


def test_a_task_that_nobody_knows_is_named(base: Artifact, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--harness helaswag: lm-evaluation-harness has no such"):
        run_harness(Checkpoint(base.path), ["helaswag"], out=tmp_path)


@pytest.fixture
def endpoint(base: Artifact) -> Iterator[str]:
    """The base behind HTTP: completions that echo their prompt with log-probabilities."""
    model = AutoModelForCausalLM.from_pretrained(str(base.path), dtype=torch.float32).eval()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body: dict[str, Any] = json.loads(self.rfile.read(length))
            choices = [told(index, ids) for index, ids in enumerate(body["prompt"])]
            reply = json.dumps({"choices": choices}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    def told(index: int, ids: list[int]) -> dict[str, Any]:
        with torch.inference_mode():
            logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        found = [float(logs[i, token]) for i, token in enumerate(ids[1:])]
        best = [{"x": float(row.max())} for row in logs]
        scores = {"token_logprobs": [None, *found, -1.0], "top_logprobs": [None, *best]}
        return {"index": index, "text": "", "logprobs": scores}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_served_model_is_judged_as_its_checkpoint(
    base: Artifact, data: Artifact, ran: HarnessRun, endpoint: str, tmp_path: Path
) -> None:
    served = Served(endpoint, "demo", tokenizer=base.path, concurrency=2)
    made = run_harness(served, ["test"], out=tmp_path, suites={"test": data.path})
    for one, other in zip(made.answers["test"], ran.answers["test"], strict=True):
        assert (one.example_id, one.label) == (other.example_id, other.label)
        assert one.scores == pytest.approx(other.scores, rel=1e-4, abs=1e-5)
