"""Our rows in the harness's hands, and what is said where it cannot help. No environment here."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from reference_case import make_base, make_data, rows
from transformers import AutoTokenizer

from eval.harness import install, launch, run
from eval.harness.known import known_file, taken_over
from eval.harness.run import Checkpoint, Served, run_harness
from eval.harness.suites import own_task
from eval.loaded import prompt_ids
from pipeline.core.artifact import Artifact
from pipeline.core.environments import LockedEnvironment
from pipeline.core.errors import DataError, EngineError, IntegrityError, UserError
from pipeline.data.arrow import read_rows


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_base(tmp_path_factory.mktemp("harness") / "base")


@pytest.fixture(scope="session")
def data(base: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_data(tmp_path_factory.mktemp("harness") / "data", base)


def test_a_rows_prompt_and_answers_are_the_very_ids_that_are_served(
    base: Artifact, data: Artifact, tmp_path: Path
) -> None:
    task = own_task("test", data.path, base.path, None)
    task.write(tmp_path)
    written = [
        json.loads(line) for line in (tmp_path / "gradus_test.jsonl").read_text().splitlines()
    ]
    tokenizer = AutoTokenizer.from_pretrained(str(base.path))
    prepared = read_rows(data.path / "test.arrow")
    assert len(written) == len(prepared) == 15
    for line, row in zip(written, prepared, strict=True):
        ids = [int(i) for i in line["prompt"].split()]
        assert ids == prompt_ids(row)
        answers = [tokenizer.decode([int(i) for i in c.split()]) for c in line["choices"]]
        assert answers == [f"{label}<|im_end|>" for label in ("harbour", "kitchen", "weather")]
        assert answers[line["gold"]] == f"{row['label']}<|im_end|>"


def test_the_task_is_a_multiple_choice_that_shows_no_rows(
    base: Artifact, data: Artifact, tmp_path: Path
) -> None:
    own_task("test", data.path, base.path, 4).write(tmp_path)
    task = yaml.safe_load((tmp_path / "gradus_test.yaml").read_text())
    assert (task["output_type"], task["num_fewshot"], task["target_delimiter"]) == (
        "multiple_choice", 0, "",
    )  # fmt: skip
    assert Path(task["dataset_kwargs"]["data_files"]["test"]).read_text().count("\n") == 4


def test_what_the_harness_found_becomes_the_one_record(base: Artifact, data: Artifact) -> None:
    task = own_task("test", data.path, base.path, 2)
    samples = [
        {"doc": {"example_id": row["example_id"]},
         "filtered_resps": [["-3.0", "False"], ["-1.0", "False"], ["-2.0", "False"]]}
        for row in task.rows
    ]  # fmt: skip
    found = task.predictions(samples, 3.0)
    assert [p.label for p in found] == ["kitchen", "kitchen"]
    assert found[0].latency_s == 1.5
    assert found[0].scores == pytest.approx(
        {"harbour": -2.4076059644, "kitchen": -0.4076059644, "weather": -1.4076059644}
    )
    samples[1]["filtered_resps"] = [["-3.0", "False"]]
    with pytest.raises(IntegrityError, match="1 answers of 3 were scored"):
        task.predictions(samples, 3.0)


def test_a_row_that_the_harness_would_cut_is_refused(base: Artifact, data: Artifact) -> None:
    with pytest.raises(DataError, match="exceed the model's context of 30, and the harness would"):
        own_task("test", data.path, base.path, None, context=30)


def test_rows_for_a_head_make_no_multiple_choice(base: Artifact, tmp_path: Path) -> None:
    asked = make_data(tmp_path, base, {"test": rows(3, 7)}, render="classify")
    with pytest.raises(DataError, match="they make no multiple choice; name another suite"):
        own_task("test", asked.path, base.path, None)


class Stand:
    """An interpreter that plays the harness: it does what a script says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script = folder / "stand.py"
        monkeypatch.setattr(launch, "_PROCESS", self.script)
        monkeypatch.setattr(run, "harness_python", lambda _echo: Path(sys.executable))
        self.out = folder / "out"

    def answers(self, tree: Any, then: str = "") -> None:
        self.script.write_text(
            "import json, os, pathlib, sys\n"
            "asked = json.loads(pathlib.Path(sys.argv[1]).read_text())\n"
            "asked['key'] = os.environ.get('OPENAI_API_KEY')\n"
            f"pathlib.Path({str(self.script) + '.seen'!r}).write_text(json.dumps(asked))\n"
            f"pathlib.Path(asked['answer']).write_text(json.dumps({tree!r}))\n{then}"
        )

    def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(f"{self.script}.seen").read_text())
        return found


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unknown", r"--harness helaswag: lm-evaluation-harness has no such task"),
        ("data", r"--harness helaswag: its data is not to be had here \(away\); run it where"),
    ],
)
def test_a_task_that_cannot_be_asked_is_one_line_with_a_remedy(
    kind: str, words: str, stand: Stand, base: Artifact
) -> None:
    stand.answers({"problem": {"task": "helaswag", "kind": kind, "text": "away"}})
    with pytest.raises(UserError, match=words):
        run_harness(Checkpoint(base.path), ["helaswag"], out=stand.out, echo=lambda _line: None)


def test_a_harness_that_dies_is_told_with_its_log(stand: Stand, base: Artifact) -> None:
    stand.script.write_text("raise RuntimeError('no memory left')")
    with pytest.raises(EngineError, match=r"ended with 1 \(RuntimeError: no memory left\); see"):
        run_harness(Checkpoint(base.path), ["arc"], out=stand.out, echo=lambda _line: None)


def test_figures_of_known_tasks_are_the_harnesss_own(stand: Stand, base: Artifact) -> None:
    told = {"figures": {"acc,none": 0.5}, "items": 4, "shots": 0, "version": 1.0,
            "chat_template": False}  # fmt: skip
    stand.answers(
        {"version": "0.4.13", "seconds": 2.0, "results": {"arc": told},
         "samples": {"arc": [{"doc_id": 0}]}},
        "print('Combined length exceeds. Truncating 3 tokens from the left.')",
    )  # fmt: skip
    made = run_harness(
        Checkpoint(base.path), ["arc"], out=stand.out, limit=4, echo=lambda _line: None
    )
    assert made.tasks == {"arc": told}
    assert made.notes == ("1 requests were longer than the model's context, and were cut",)
    assert json.loads((stand.out / "harness.json").read_text())["tasks"]["arc"] == told
    assert (stand.out / "samples-arc.jsonl").read_text() == '{"doc_id": 0}\n'
    seen = stand.seen()
    assert (seen["limit"], seen["ids"], seen["model"]["dtype"]) == (4, False, "float32")


def test_its_progress_is_read_off_its_bars(stand: Stand, base: Artifact) -> None:
    bar = "Running loglikelihood requests:  38%|###       | 17/45 [00:00<00:00, 44.21it/s]"
    stand.answers(
        {"version": "0.4.13", "seconds": 0.0, "results": {}, "samples": {}},
        f"import time; print({bar!r}, flush=True); time.sleep(2.5)",
    )
    seen: list[tuple[int, int]] = []
    run_harness(
        Checkpoint(base.path), ["arc"], out=stand.out, echo=lambda _line: None,
        on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert set(seen) == {(17, 45)}


def test_a_key_goes_by_the_environment_and_lies_nowhere(stand: Stand) -> None:
    stand.answers({"version": "0.4.13", "seconds": 0.0, "results": {}, "samples": {}})
    served = Served("http://127.0.0.1:9/v1", "demo", api_key="hidden-word")
    run_harness(served, ["arc"], out=stand.out, echo=lambda _line: None)
    assert stand.seen()["key"] == "hidden-word"
    texts = [path.read_text() for path in stand.out.rglob("*") if path.is_file()]
    assert not any("hidden-word" in text for text in texts)


def stopped(out: Path, served: Served, answers: int) -> Path:
    """A cache as the harness leaves it (SqliteDict) where a run over a URL was stopped."""
    about = {"kind": "served", "url": served.url, "model": served.model, "tokenizer": None}
    place = known_file(out, {"model": about, "ids": False})
    place.parent.mkdir(parents=True)
    file = place.with_name(f"{place.name}-read_rank0.db")
    with closing(sqlite3.connect(file)) as cache, cache:
        cache.execute("CREATE TABLE unnamed (key TEXT PRIMARY KEY, value BLOB)")
        cache.executemany("INSERT INTO unnamed VALUES (?, ?)", [(n, b"") for n in range(answers)])
    return file


def test_answers_of_a_stopped_run_over_a_url_are_taken_or_left_as_the_user_says(
    stand: Stand,
) -> None:
    served = Served("http://127.0.0.1:9/v1", "demo")
    found = {"version": "0.4.13", "seconds": 0.0, "results": {}, "samples": {}}
    seen = stand.out.with_name("kept")
    listed = "[p.name for p in pathlib.Path(asked['known']).parent.glob('*')]"
    stand.answers(found, f"pathlib.Path({str(seen)!r}).write_text(json.dumps({listed}))")

    def asked(**more: Any) -> list[str]:
        run_harness(served, ["arc"], out=stand.out, echo=lambda _line: None, **more)
        kept: list[str] = json.loads(seen.read_text())
        return kept

    file = stopped(stand.out, served, 3)
    with pytest.raises(UserError, match=r"holds 3 answers of a run .*--earlier keep to take them"):
        asked()
    assert not seen.exists()
    assert asked(earlier="keep") == [file.name]
    # A run that ended leaves none.
    assert asked() == []
    stopped(stand.out, served, 3)
    assert asked(earlier="drop") == []
    # Nobody answered before it was stopped: there is nothing to settle.
    stopped(stand.out, served, 0)
    assert len(asked()) == 1


def test_our_rows_of_a_served_model_need_its_tokenizer(stand: Stand, data: Artifact) -> None:
    with pytest.raises(UserError, match="give --recipe RECIPE"):
        run_harness(
            Served("http://127.0.0.1:9/v1", "demo"), ["test"], out=stand.out,
            suites={"test": data.path}, echo=lambda _line: None,
        )  # fmt: skip


def test_an_environment_of_another_lock_file_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "harness.lock"
    lock.write_text("lm-eval==0.4.13\n")
    monkeypatch.setattr(install, "lock_file", lambda: lock)
    monkeypatch.setenv(install.HOME_VARIABLE, str(tmp_path / "home"))
    made: list[list[str]] = []
    monkeypatch.setattr(
        LockedEnvironment, "_run", lambda _self, command, _name: made.append(command)
    )
    monkeypatch.setattr(LockedEnvironment, "_probed", lambda _self: {"lm_eval": "0.4.13"})
    told: list[str] = []
    for _ in range(2):
        found = install.harness_python(told.append)
        assert found == tmp_path / "home" / "bin" / "python"
    assert sum("pip" in command for command in made) == 1
    assert any("installing lm-evaluation-harness" in line for line in told)
    lock.write_text("lm-eval==0.4.14\n")
    install.harness_python(told.append)
    assert sum("pip" in command for command in made) == 2


def test_what_was_installed_and_does_not_import_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(install.HOME_VARIABLE, str(tmp_path))
    monkeypatch.setattr(LockedEnvironment, "_install", lambda self, _echo: _empty(self.home))
    with pytest.raises(EngineError, match=r"does not import .* delete the folder and run it again"):
        install.harness_python(lambda _line: None)
    assert not (tmp_path / install.MARKER).exists()


def _empty(place: Path) -> None:
    (place / "bin").mkdir()
    (place / "bin" / "python").symlink_to(sys.executable)


def test_both_environments_read_a_checkpoint_with_the_same_code() -> None:
    ours, theirs = (pins(install.checkout() / "requirements" / f"{name}.lock")
                    for name in ("main", "harness"))  # fmt: skip
    assert theirs["lm-eval"] == install.VERSION
    shared = ours.keys() & theirs.keys()
    assert {"torch", "transformers", "tokenizers", "peft", "safetensors", "datasets"} <= shared
    assert {name: theirs[name] for name in shared} == {name: ours[name] for name in shared}


def pins(lock: Path) -> dict[str, str]:
    lines = [line for line in lock.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("==", 1) for line in lines)


def test_what_is_known_is_known_of_these_weights_and_this_way_of_asking(
    base: Artifact, tmp_path: Path
) -> None:
    def place(model: dict[str, Any], ids: bool = False, **more: Any) -> str:
        return known_file(tmp_path, {"model": model, "ids": ids, **more}).name

    model = {"kind": "checkpoint", "root": str(base.path), "adapter": None, "dtype": "float32"}
    first = place(model)
    # How many rows are asked changes no answer: those of a smaller limit are known.
    assert place(model, limit=5, tasks=["hellaswag"]) == first
    assert place(model, ids=True) != first
    assert place({**model, "dtype": "bfloat16"}) != first
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"one")
    plain = {**model, "root": str(weights)}
    before = place(plain)
    assert place(plain) == before
    (weights / "model.safetensors").write_bytes(b"other")
    assert place(plain) != before
    served = {"kind": "served", "url": "http://x/v1", "model": "a", "concurrency": 4}
    assert place(served) == place({**served, "concurrency": 16}) != place({**served, "model": "b"})


def test_answers_of_a_stopped_run_are_counted_by_the_harnesss_own_log() -> None:
    log = """2026-11-26:18:00:01 INFO [api.model:329] Cached requests: 17, Requests remaining: 28
2026-11-26:18:00:09 INFO [api.model:329] Cached requests: 3, Requests remaining: 0
"""
    assert taken_over(log) == 20
    assert taken_over("") == 0
