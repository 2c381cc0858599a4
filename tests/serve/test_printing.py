"""`gradus serve --print` and `gradus engine start` against what VllmEngine really starts."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tiny_family import HEAD, Family, make_headed

from pipeline.cli import main
from serve import transformers_engine, vllm_engine
from serve.bundle import read_bundle
from serve.engine import Engine
from serve.engine_install import HOME_VARIABLE, find_home, lock_file
from serve.transformers_engine import TransformersEngine
from serve.vllm_engine import VllmEngine

ROOT = Path(__file__).resolve().parents[2]
# Stands in an engine's place: it writes down how it was started, and what lies in the folder
# of each adapter that it was told of.
RECORDER = f"""#!{sys.executable} -S
import json, os, pathlib, sys
folders = [w.partition("=")[2] for w in sys.argv if w.startswith(("demo-l", "/")) and "=" in w]
models = pathlib.Path(os.environ.get("HF_HOME", "/nowhere")).parent / "models"
folders += sorted(map(str, models.glob("*")))
held = {{
    folder: {{f.name: os.readlink(f) if f.is_symlink() else f.read_bytes().hex()
              for f in pathlib.Path(folder).iterdir()}}
    for folder in folders
}}
made = {{"pid": os.getpid(), "argv": sys.argv[1:], "env": dict(os.environ), "held": held}}
place = pathlib.Path(CALLS) / f"{{os.getpid()}}"
place.with_suffix(".part").write_text(json.dumps(made))
place.with_suffix(".part").rename(place.with_suffix(".json"))
"""
# A shell's own, and what differs between two processes anyway.
OWN = {"_", "PWD", "OLDPWD", "SHLVL", "PYTEST_CURRENT_TEST", "LINES", "COLUMNS"}


class Recorded:
    """Where the stand-in writes, and what it wrote."""

    def __init__(self, calls: Path) -> None:
        self.calls = calls
        calls.mkdir()

    def taken(self, count: int) -> list[dict[str, Any]]:
        """Each start, by port; the private folder as FOLDER; none is left behind."""
        made = [json.loads(place.read_text()) for place in self.calls.glob("*.json")]
        assert len(made) == count
        for place in self.calls.iterdir():
            place.unlink()
        return sorted(map(_plain, made), key=lambda one: one["argv"])


def _plain(made: Mapping[str, Any]) -> dict[str, Any]:
    """Without what each start has of its own."""
    folder = next((str(Path(place).parents[1]) for place in made["held"]), "/no folder")
    env = {key: value for key, value in made["env"].items() if key not in OWN}
    text = json.dumps({"argv": made["argv"], "env": env, "held": made["held"]})
    plain: dict[str, Any] = json.loads(text.replace(folder, "FOLDER"))
    return plain


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """An engine environment whose interpreter is the stand-in."""
    made = Recorded(tmp_path / "calls")
    home = tmp_path / "engine home"
    (home / "bin").mkdir(parents=True)
    python = home / "bin" / "python"
    python.write_text(RECORDER.replace("CALLS", repr(str(made.calls))))
    python.chmod(0o755)
    sha256 = hashlib.sha256(lock_file("cpu").read_bytes()).hexdigest()
    marker = {"device": "cpu", "vllm": "0.32.0", "lock_sha256": sha256}
    (home / "gradus-engine.json").write_text(json.dumps(marker))
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    return made


def cli(*words: str | Path, **env: str | None) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], env=env)


def pasted(text: str) -> None:
    """As a user's shell runs it."""
    done = subprocess.run(
        ["bash", "-eu", "-c", f"{text}\nwait"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def started(engine: Engine) -> None:
    engine.start()
    while engine.alive():
        pass
    engine.stop()


def test_pasted_lines_start_what_the_engine_starts(
    recorded: Recorded, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = engines_only(cli("serve", family.bundle, "--print").output)
    assert recorded.taken(0) == []
    pasted(printed)
    by_hand = recorded.taken(1)
    monkeypatch.setattr(vllm_engine, "free_port", lambda: 8001)
    home = find_home()
    assert home is not None
    started(VllmEngine(read_bundle(family.bundle), home))
    assert by_hand == recorded.taken(1)
    assert by_hand[0]["held"].keys() == {"FOLDER/adapters/demo-l1", "FOLDER/adapters/demo-l2"}
    assert "PYTHONPATH" not in by_hand[0]["env"]


def test_an_engine_that_follows_releases_is_printed_with_its_room(
    recorded: Recorded, family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ("--releases", tmp_path / "releases.json")
    pasted(engines_only(cli("serve", family.bundle, "--print", *told).output))
    by_hand = recorded.taken(1)
    monkeypatch.setattr(vllm_engine, "free_port", lambda: 8001)
    home = find_home()
    assert home is not None
    started(VllmEngine(read_bundle(family.bundle), home, room=2, rank=12))
    assert by_hand == recorded.taken(1)
    assert by_hand[0]["argv"][by_hand[0]["argv"].index("--max-loras") + 1] == "5"
    assert by_hand[0]["env"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


def test_printed_words_are_those_of_the_command_line(recorded: Recorded, family: Family) -> None:
    printed = engines_only(cli("serve", family.bundle, "--print").output)
    pasted(printed)
    home, bundle = find_home(), read_bundle(family.bundle)
    assert home is not None
    places = {a.name: Path("FOLDER/adapters") / a.name for a in bundle.adapters}
    expected = vllm_engine.command_line(bundle, home, places, 8001)
    assert recorded.taken(1)[0]["argv"] == expected[1:]


def test_a_family_with_a_head_prints_an_engine_more(
    recorded: Recorded, family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_headed(family, tmp_path, "mean")
    pasted(engines_only(cli("serve", bundle, "--print", "--port", "9000").output))
    by_hand = recorded.taken(2)
    home = find_home()
    assert home is not None
    for port, pooling in ((9001, None), (9002, "mean")):
        monkeypatch.setattr(vllm_engine, "free_port", lambda port=port: port)
        started(VllmEngine(read_bundle(bundle), home, pooling))
    assert by_hand == recorded.taken(2)
    assert [list(each["held"]) for each in by_hand][1] == [f"FOLDER/adapters/{HEAD}"]


def test_without_vllm_the_lines_start_transformers(
    recorded: Recorded, family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = find_home()
    assert home is not None
    template = tmp_path / "with template"
    subprocess.run(["cp", "-r", family.bundle, template], check=True)
    (template / "chat_template.jinja").write_text("{{ 'own' }}")
    tree = json.loads((template / "bundle.json").read_text())
    (template / "bundle.json").write_text(
        json.dumps({**tree, "chat_template": "chat_template.jinja"})
    )
    real = transformers_engine.command_line

    def recording(*given: Any) -> list[str]:
        return [str(home.python), *real(*given)[1:]]

    monkeypatch.setattr(transformers_engine, "command_line", recording)
    monkeypatch.setattr(transformers_engine, "free_port", lambda: 8001)
    pasted(engines_only(cli("serve", template, "--print", "--engine", "transformers").output))
    by_hand = recorded.taken(1)
    engine = TransformersEngine(read_bundle(template))
    started(engine)
    assert by_hand == recorded.taken(1)
    assert len(by_hand[0]["held"]) == 3


def engines_only(text: str) -> str:
    """The printed lines without those that wait for the engines, and the gateway's."""
    return text.partition("until curl")[0]


def test_engine_start_runs_the_printed_command_with_a_drain(
    recorded: Recorded, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["engine", "start", str(family.bundle), "--host", "::", "--drain-seconds", "7"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert process.wait(60) == 0
    alone = recorded.taken(1)[0]
    pasted(engines_only(cli("serve", family.bundle, "--print").output))
    printed = recorded.taken(1)[0]
    assert alone["argv"][-2:] == ["--shutdown-timeout", "7"]
    at = printed["argv"].index("127.0.0.1")
    assert alone["argv"][:-2] == [*printed["argv"][:at], "::", *printed["argv"][at + 1 :]]
    assert alone["held"] == printed["held"]
    assert alone["env"] == printed["env"]


def test_an_engine_that_does_not_end_is_ended_after_its_drain(
    recorded: Recorded, family: Family, tmp_path: Path
) -> None:
    """vLLM that is told to stop while it starts waits for ever."""
    python = Path(os.environ[HOME_VARIABLE]) / "bin" / "python"
    up, temporary = tmp_path / "up", tmp_path / "temporary"
    python.write_text(f"#!/bin/bash\ntrap '' TERM\ntouch '{up}'\nwhile :; do sleep 0.1; done\n")
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "engine", "start", str(family.bundle),
         "--drain-seconds", "0"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": "", "TMPDIR": str(temporary)},
    )  # fmt: skip
    ends = time.monotonic() + 60
    while not up.exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert len(list(temporary.iterdir())) == 1
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    assert process.wait(15) == 137
    assert list(temporary.iterdir()) == []


def test_engine_start_refuses_a_pooling_that_no_head_has(
    recorded: Recorded, family: Family
) -> None:
    result = cli("engine", "start", family.bundle, "--pooling", "cls")
    assert result.exit_code == 2
    assert "no head of demo-intents pools so" in result.output
    assert recorded.taken(0) == []


def gateway_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def read_back(line: str) -> tuple[list[str], dict[str, Any]]:
    """The variables that a printed line sets, and what the verb reads from its words."""
    words = shlex.split(line)
    at = words.index("serve")
    verb = main.commands["serve"]
    taken = {"GRADUS_API_KEY", "GRADUS_USAGE_URL"} & set(os.environ)
    assert not taken
    return words[:at], verb.make_context("gradus", words[at + 1 :]).params


def test_gateway_line_has_the_settings_that_were_given_and_the_printed_engines(
    recorded: Recorded, family: Family, tmp_path: Path
) -> None:
    keys, log = tmp_path / "my keys.json", tmp_path / "log"
    given = ["--port", "9000", "--host", "::", "--keys", keys, "--access-log", log]
    given += ["--log-prompts", "--drain-seconds", "2.5", "--max-in-flight", "7"]
    given += ["--usage-db", "sqlite:////tmp/u.db"]
    plain = main.commands["serve"].make_context("gradus", [str(family.bundle), *map(str, given)])
    printed = cli("serve", family.bundle, "--print", *given).output
    before, params = read_back(gateway_line(printed))
    assert before[-1].endswith(("gradus", "pipeline.cli"))
    assert params == {
        **plain.params,
        "recipe": family.bundle.resolve(),
        "engine_urls": ("http://127.0.0.1:9001",),
    }
    assert recorded.taken(0) == []
    assert not list(tmp_path.glob("log"))


def test_no_secret_is_printed_and_a_paste_without_them_says_what_is_missing(
    recorded: Recorded, family: Family
) -> None:
    secrets = {
        "GRADUS_API_KEY": "sk-very-secret",
        "GRADUS_ENGINE_KEY": "engine-secret",
        "GRADUS_USAGE_URL": "postgresql+psycopg://ada:hunter2@db/usage",
    }
    printed = cli("serve", family.bundle, "--print", **secrets).output
    away = ["--engine-url", "http://ada:hunter2@gpu:8001", "--api-key", "sk-very-secret"]
    printed += (remote := cli("serve", family.bundle, "--print", *away).output)
    away[1] = "http://gpu:8001"
    printed += cli("serve", family.bundle, "--print", *away).output
    for secret in ("sk-very-secret", "engine-secret", "hunter2"):
        assert secret not in printed
    assert "postgresql+psycopg://ada:***@db/usage" in printed
    assert "http://ada:***@gpu:8001: names a user; leave that out" in remote
    bare = {name: value for name, value in os.environ.items() if name not in secrets}
    done = subprocess.run(
        ["bash", "-c", gateway_line(printed)], env=bare, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "GRADUS_API_KEY: the key that clients send" in done.stderr


def test_nothing_is_made_by_printing(family: Family, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((ROOT / "recipes" / "demo" / "l0.yaml").read_text())
    store = tmp_path / "store"
    result = cli("serve", recipe, "--print", GRADUS_STORE=str(store))
    assert result.exit_code == 2
    assert "not made yet; `gradus run" in result.output
    cli("serve", family.bundle, "--print", GRADUS_STORE=str(store))
    assert not store.exists() or not [p for p in store.rglob("*") if p.is_file()]


def test_a_bundle_is_not_changed_by_options_of_a_recipe(family: Family) -> None:
    for option in (["--ungated"], ["--set", "train.lora_r=1"]):
        result = cli("serve", family.bundle, "--print", *option)
        assert result.exit_code == 2
        assert f"{option[0]}: {family.bundle} is made already" in result.output
