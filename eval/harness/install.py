"""The harness's own environment: made from a lock file, checked, marked, found again.

Beside the trainer's, because its dependencies are many and nothing here needs them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import EngineError

HOME_VARIABLE = "GRADUS_HARNESS_HOME"
MARKER = "gradus-harness.json"
VERSION = "0.4.13"
_PROBE = """\
import importlib.metadata, json, lm_eval, torch, transformers
from lm_eval.models import huggingface, openai_completions
print(json.dumps({"lm_eval": importlib.metadata.version("lm_eval"), "torch": torch.__version__}))
"""


def checkout() -> Path:
    """The folder above the ``eval`` package: pyproject.toml, requirements/, environments."""
    return Path(__file__).resolve().parents[2]


def lock_file() -> Path:
    """The lock file that the environment is made from."""
    return checkout() / "requirements" / "harness.lock"


def home() -> Path:
    """Where the environment lives: ``GRADUS_HARNESS_HOME``, else beside pyproject.toml."""
    override = os.environ.get(HOME_VARIABLE)
    return Path(override).absolute() if override else checkout() / ".venv-harness"


def harness_python(echo: Callable[[str], None]) -> Path:
    """The interpreter of the environment, which is made where it is not there yet.

    Args:
        echo: told each step of an installation; silent where nothing is to be done.

    Raises:
        EngineError: pip failed, or what it installed does not import.
    """
    place = home()
    python = place / "bin" / "python"
    if _current(place):
        return python
    place.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(place, echo):
        if not _current(place):
            # Without its marker an environment counts for nothing: a torn one is never used.
            (place / MARKER).unlink(missing_ok=True)
            _install(place, echo)
            _mark(place, _probe(python))
    return python


def _current(place: Path) -> bool:
    try:
        marker = json.loads((place / MARKER).read_bytes())
        found: bool = marker["lock_sha256"] == _lock_digest()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return found


def _install(place: Path, echo: Callable[[str], None]) -> None:
    python = place / "bin" / "python"
    if not python.exists():
        echo(f"harness: making a virtual environment at {place}")
        _run([sys.executable, "-m", "venv", str(place)], "python -m venv")
    echo(f"harness: installing lm-evaluation-harness {VERSION} (minutes, the first time)")
    pip = [str(python), "-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]
    _run([*pip, "--quiet", "-r", str(lock_file())], "pip install")


def _probe(python: Path) -> dict[str, str]:
    done = subprocess.run(
        [str(python), "-I", "-c", _PROBE], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise EngineError(
            f"{python.parents[1]}: lm-evaluation-harness does not import ({_last(done.stderr)}); "
            "delete the folder and run it again"
        )
    told: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def _mark(place: Path, told: dict[str, str]) -> None:
    draft = place / f"{MARKER}.draft"
    draft.write_text(json.dumps({**told, "lock_sha256": _lock_digest()}, indent=2) + "\n")
    draft.replace(place / MARKER)


@contextmanager
def _one_at_a_time(place: Path, echo: Callable[[str], None]) -> Iterator[None]:
    with (place / ".gradus-install.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            echo(f"harness: another installation works on {place}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(
            f"harness: {name} failed: {_last(done.stderr or done.stdout)}; "
            "see that pip can reach its index, then run it again"
        )


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]


def _lock_digest() -> str:
    lock = lock_file()
    if not lock.is_file():
        raise EngineError(f"{lock}: no such file; run gradus from its checkout")
    return hashlib.sha256(lock.read_bytes()).hexdigest()
