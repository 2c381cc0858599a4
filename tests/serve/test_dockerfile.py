"""The images are made by the scripts and locks that CI uses, and run as nobody."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("train", "engine-cpu", "engine-cuda", "gateway")
# In an image nothing is installed in editable form: only what was copied is there. And the
# gateway's environment has none of these.
ALONE = """\
import sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
for name in ("torch", "transformers", "peft", "datasets", "pyarrow", "rich", "pandas", "sklearn"):
    sys.modules[name] = None
sys.path.insert(0, ".")
from pipeline.cli import main
main(sys.argv[1:])
"""


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
            match = re.fullmatch(r"(\S+) AS ([\w-]+)", rest)
            assert match, f"Dockerfile: {line}"
            image = found[match[2]] = Image(match[2], match[1])
        else:
            image.steps.append((word, rest))
    return found


def whole(target: str) -> list[tuple[str, str]]:
    """A target's steps after those of what it stands on."""
    found = images()
    if target not in found:
        return []
    return [*whole(found[target].base), *found[target].steps]


def last(target: str, word: str) -> str:
    return [rest for step, rest in whole(target) if step == word][-1]


def copied(rest: str) -> tuple[list[str], str]:
    """Sources and destination of a COPY."""
    *sources, target = [part for part in rest.split() if not part.startswith("--")]
    return sources, target


def checked_out(target: str, until: str, place: Path) -> Path:
    """What the image holds of the checkout, up to a RUN that has ``until`` in it."""
    for word, rest in whole(target):
        if word == "RUN" and until and until in rest:
            break
        if word == "COPY":
            sources, to = copied(rest)
            (place / to).mkdir(parents=True, exist_ok=True)
            for source in (file for each in sources for file in ROOT.glob(each)):
                if source.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(source, place / to, dirs_exist_ok=True, ignore=ignored)
                else:
                    shutil.copy(source, place / to)
    return place


def alone(place: Path, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line in an image's files, with the gateway's packages alone."""
    return subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, words)],
        cwd=place,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_dockerfile_has_its_targets_and_pins_its_base() -> None:
    found = images()
    assert set(TARGETS) <= set(found)
    for image in found.values():
        if image.base not in found:
            assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+-[\w.-]+", image.base), image.base
    assert "latest" not in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_image_ends_as_a_user_without_rights(target: str) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last(target, "USER"))


def test_every_copied_path_exists_and_is_sent_to_the_builder() -> None:
    kept = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().split()[1:]}
    for image in images().values():
        for rest in image.all("COPY"):
            for source in copied(rest)[0]:
                assert list(ROOT.glob(source)), f"Dockerfile: COPY {source}"
                assert source.split("/")[0] in kept, f".dockerignore leaves {source} out"


def test_images_install_through_the_scripts_and_locks_alone() -> None:
    allowed = (
        r"make setup|(install --directory \S+ \S+ \S+ && )?scripts/setup gateway|"
        r"\S+python -m pipeline\.cli engine install --device (cpu|cuda)"
    )
    found = images()
    for name in ("engine", *TARGETS):
        for rest in found[name].all("RUN"):
            assert re.fullmatch(allowed, rest), f"{name}: RUN {rest}"
    assert "pip install" not in (ROOT / "Dockerfile").read_text()


def test_gateway_image_has_no_engine_no_compiler_and_no_training_code(tmp_path: Path) -> None:
    place = checked_out("gateway", "", tmp_path)
    assert {p.name for p in place.iterdir()} == {"requirements", "scripts", "pipeline", "serve"}
    locks = {p.name for p in (place / "requirements").iterdir()}
    assert locks == {"gateway.in", "main.lock"}
    assert {p.name for p in (place / "pipeline").iterdir() if p.is_dir()} == {"core"}
    assert not any("apt-get" in rest for word, rest in whole("gateway") if word == "RUN")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_engine_image_copies_enough_to_install_the_engine(device: str, tmp_path: Path) -> None:
    place = checked_out(f"engine-{device}", "engine install", tmp_path / "image")
    # A finished environment by its marker: the verb runs whole, and installs nothing.
    home = tmp_path / "engine"
    home.mkdir()
    lock = place / "requirements" / f"engine-{device}.lock"
    sha256 = hashlib.sha256(lock.read_bytes()).hexdigest()
    marker = {"device": device, "vllm": "0", "lock_sha256": sha256}
    (home / "gradus-engine.json").write_text(json.dumps(marker))
    done = alone(place, "engine", "install", "--device", device, GRADUS_ENGINE_HOME=str(home))
    assert (done.returncode, done.stderr) == (0, "")
    assert "is ready" in done.stdout or "is installed" in done.stdout


@pytest.mark.parametrize("target", ["engine-cpu", "engine-cuda", "gateway"])
def test_entry_point_runs_on_what_the_image_holds(target: str, tmp_path: Path) -> None:
    place = checked_out(target, "", tmp_path)
    entry = json.loads(last(target, "ENTRYPOINT"))
    assert entry[:3] == [".venv-gateway/bin/python", "-m", "pipeline.cli"]
    helped = alone(place, *entry[3:], *json.loads(last(target, "CMD")))
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "BUNDLE" in helped.stdout or "RECIPE" in helped.stdout
    # Every import of the verb, down to its first look at the folder.
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "bundle.json").write_text("{}")
    failed = alone(place, *entry[3:], tmp_path / "empty", GRADUS_API_KEY="k" * 40)
    assert failed.returncode == 2
    assert "bundle.json" in failed.stderr, failed.stderr


def health_check(target: str, port: int) -> str:
    """The program of an image's health check, asking another port."""
    words = shlex.split(last(target, "HEALTHCHECK").partition(" CMD ")[2].strip("[]"))
    python, flag, program = [word.rstrip(",") for word in words]
    assert (python, flag) == (".venv-gateway/bin/python", "-c")
    own = f"127.0.0.1:{last(target, 'EXPOSE')}/"
    assert own in program
    return program.replace(own, f"127.0.0.1:{port}/")


@pytest.mark.parametrize("target", ["engine-cpu", "engine-cuda", "gateway"])
def test_health_check_is_a_program_that_fails_where_nobody_listens(target: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", health_check(target, 9)], capture_output=True, check=False
    )
    assert done.returncode == 1
