"""The command line: fast to start, one line for a mistake, nothing written by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError, ModelError
from pipeline.core.store import Store
from pipeline.ladder import make_plan
from pipeline.rehearsal import rehearse

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "datasets", "accelerate", "peft", "sklearn")
Gradus = Callable[..., Result]
Refusal = Callable[..., str]


def imported(code: str, cwd: Path, store: Path) -> set[str]:
    """Top-level packages that a fresh interpreter has imported after ``code``."""
    tail = "\nimport sys; print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, cwd=cwd, check=True,
        env={**os.environ, "GRADUS_STORE": str(store), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return set(done.stdout.splitlines()[-1].split()[1:])


def call(*arguments: str | Path) -> str:
    words = [str(argument) for argument in arguments]
    return f"from pipeline.cli import main\nmain({words!r}, standalone_mode=False)"


def quiet(code: str) -> str:
    return f"try:\n    {code.replace(chr(10), chr(10) + '    ')}\nexcept SystemExit: pass"


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    found = imported(quiet(call("--help")), tmp_path, tmp_path / "store")
    assert "click" in found
    assert not found & {*HEAVY, "pydantic", "rich", "yaml", "numpy", "pyarrow", "fastapi"}


@pytest.mark.parametrize("verb", ["plan", "init"])
def test_planning_imports_neither_torch_nor_its_friends(
    verb: str, ladder: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"text number {i}", "label": "ab"[i % 2]} for i in range(40)]
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words: dict[str, list[str | Path]] = {
        "plan": ["plan", ladder, "--no-price"],
        "init": ["init", "--data", data, "--base", ladder],
    }
    found = imported(quiet(call(*words[verb])), tmp_path, tmp_path / "store")
    assert "yaml" in found
    assert not found & set(HEAVY)


def test_the_installed_command_plans_within_seconds(ladder: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "plan", str(ladder), "--json", "--no-price"],
        capture_output=True, text=True, cwd=ROOT, check=True,
        env={**os.environ, "GRADUS_STORE": str(tmp_path / "store")},
    )  # fmt: skip
    # Under a second where the machine is idle; the bound is for one that is not.
    assert time.monotonic() - began < 20
    tree = json.loads(done.stdout)
    assert {stage["status"] for stage in tree["stages"]} == {"run"}
    assert all(len(stage["key"]) == 64 for stage in tree["stages"])


@pytest.fixture
def task(tmp_path: Path, model_folder: Path) -> Iterator[Path]:
    """A recipe over a model folder. Whatever a test does to it, nothing may be written."""
    assert model_folder.is_dir()
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, count in (("train", 40), ("test", 10)):
        rows = [{"text": f"{name} {i}", "label": "ab"[i % 2]} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "task.yaml"
    path.write_text(
        "name: task\nlevel: L2\nbase: ../model\n"
        "data:\n  train: {path: train.jsonl, format: classification}\n"
        "  test: {path: test.jsonl, format: classification}\n"
        "train:\n  objective: [sft, classify]\n"
    )
    yield path
    assert not (tmp_path / "store").exists()
    assert {p.name for p in folder.iterdir()} <= {"task.yaml", "train.jsonl", "test.jsonl"}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("verb", ["plan", "run", "serve"])
@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("objective", "objectiv", 8, "unknown key"),
        ("level: L2", "level: L4", 2, "'L0', 'L1' or 'L2'"),
        ("base: ../model", "base: gone.yaml", 3, "no such recipe; check the path"),
        ("base: ../model", "base: gone", 3, "no recipe, no folder and no hub id"),
        ("base: ../model", "base: task.yaml", 3, "circle"),
        ("base: ../model", "base: .", 3, "no config.json there"),
        ("name: task", "extends: task.yaml", 1, "circle"),
        ("path: train.jsonl", "path: gone.jsonl", 5, "gone.jsonl: no such file"),
        ("path: test.jsonl", "path: ../gone", 6, "../gone: no such file"),
        ("level: L2", "level: L2\nlevel: L2", 3, "written twice"),
        ("[sft, classify]", "[sft", 9, "not YAML"),
        ("train:\n  obj", "train:\n  learning_rate: .nan\n  obj", 8, "finite"),
        ("[sft, classify]", "sft\nevaluate: {control: gone.yaml}", 9, "no such recipe"),
        ("[sft, classify]", "sft\nevaluate: {suites: {x: {recipe: gone.yaml}}}", 9, "no such"),
        ("train:\n  obj", "train:\n  launch: {config: gone.yaml}\n  obj", 8, "no such file"),
        ("data:\n", "data:\n  chat_template: gone.jinja\n", 5, "gone.jinja: no such file"),
    ],
)  # fmt: skip
def test_a_bad_recipe_is_one_line_and_exit_code_2(
    task: Path, refusal: Refusal, verb: str, old: str, new: str, line: int, words: str
) -> None:
    edit(task, old, new)
    message = refusal(verb, task)
    assert message.startswith(f"{task}:{line}: ")
    assert words in message


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize("key", ["base", "data.train.path"])
def test_an_unlocked_revision_under_locked_is_refused(
    task: Path, refusal: Refusal, verb: str, key: str
) -> None:
    message = refusal(verb, task, "--locked", "--set", f"{key}=acme/thing")
    assert f"{key}: acme/thing is not locked in task.lock; run once without --locked" in message


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize("override", ["nonsense", "train.lora_r=x", "a.b=1", "train.lora_q=3"])
def test_a_nonsensical_override_is_one_line(
    task: Path, refusal: Refusal, verb: str, override: str
) -> None:
    assert refusal(verb, task, "--set", override).startswith("--set ")


@pytest.mark.parametrize("verb", ["plan", "run", "serve"])
def test_what_is_no_recipe_at_all_is_one_line(
    task: Path, refusal: Refusal, verb: str, tmp_path: Path
) -> None:
    assert "no such recipe" in refusal(verb, tmp_path / "gone.yaml")
    assert "name a recipe file" in refusal(verb, task.parent)
    assert "UTF-8" in refusal(verb, Path(sys.executable))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train", "", "train.jsonl: holds no rows; point"),
        ("train", "\n \n", "train.jsonl: holds no rows; point"),
        ("test", '{"text": "x", "label": "c"}\n', "label 'c' is unseen in training; add"),
        ("train", '{"text": "", "label": "a"}\n', "train.jsonl:1: text is empty"),
        ("train", '{"text": "x", "label": "a"}\n{"text"\n', "train.jsonl:2: not JSON"),
        ("train", '{"text": "x"}\n', "train.jsonl:1: no column 'label'"),
    ],
)
def test_rows_that_would_stop_a_run_are_found_before_anything_is_written(
    task: Path, store: Store, tmp_path: Path, name: str, content: str, words: str
) -> None:
    (task.parent / f"{name}.jsonl").write_text(content)
    with pytest.raises(DataError) as caught:
        rehearse(make_plan(task, Store(tmp_path / "unused")), store)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert not (tmp_path / "unused").exists()


def test_a_base_without_a_chat_template_is_found_before_anything_is_written(
    task: Path, store: Store, tmp_path: Path, model_folder: Path
) -> None:
    settings = model_folder / "tokenizer_config.json"
    settings.write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    unused = Store(tmp_path / "unused")
    with pytest.raises(ModelError) as caught:
        rehearse(make_plan(task, unused), store)
    message = str(caught.value)
    assert message.startswith(f"{task}:3: base: model: its tokenizer has no chat_template")
    assert "set data.chat_template" in message
    rehearse(make_plan(task, unused, ["train.objective=classify"]), store)
    settings.write_text('{"chat_template": "{{ messages }}"}')
    rehearse(make_plan(task, unused), store)


def test_schema_is_json_that_names_its_keys(gradus: Gradus) -> None:
    result = gradus("schema")
    assert result.exit_code == 0
    assert "extends" in json.loads(result.stdout)["properties"]


def test_an_empty_store_has_no_models_and_no_problems(gradus: Gradus, tmp_path: Path) -> None:
    assert json.loads(gradus("models", "--json").stdout) == []
    assert json.loads(gradus("verify", "--json").stdout) == {"artifacts": 0, "problems": []}
    assert "no models yet" in gradus("models").stdout
    assert not (tmp_path / "store").exists()


def test_lineage_of_an_unknown_model_names_the_known(refusal: Refusal, store: Store) -> None:
    store.write_json("models/one.json", {"name": "one"})
    message = refusal("lineage", "two")
    assert message.startswith("two: no such model")
    assert "(known: one); see `gradus models`" in message


def test_verify_finds_and_names_a_flipped_byte(
    gradus: Gradus, store: Store, commit: Callable[..., Artifact]
) -> None:
    commit(store, "1" * 64, {"weights": b"1234"})
    good = commit(store, "2" * 64, {"weights": b"1234"})
    assert gradus("verify").exit_code == 0
    (good.path / "weights").write_bytes(b"1235")
    result = gradus("verify", "--json")
    assert result.exit_code == 1
    tree = json.loads(result.stdout)
    assert tree["artifacts"] == 2
    assert [problem.partition(": ")[0] for problem in tree["problems"]] == [
        str(good.path / "weights")
    ]


def test_plan_as_a_table_ends_with_what_it_would_do(gradus: Gradus, ladder: Path) -> None:
    result = gradus("plan", ladder, "--no-price")
    assert result.exit_code == 0
    assert "tiny-task/export.sft.seed1" in result.stdout
    assert "rank 8, an engine slot of 8" in result.stdout
    stages = len(json.loads(gradus("plan", ladder, "--json").stdout)["stages"])
    assert result.stdout.splitlines()[-1] == f"0 hit, {stages} to run, 0 cannot run"


def test_a_store_that_is_a_file_is_one_line(
    gradus: Gradus, ladder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRADUS_STORE", str(tmp_path / "file"))
    result = gradus("plan", ladder)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert len(result.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in result.stderr
