"""llm-compressor's own environment: it wants an older transformers than the trainer's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.core.environments import LockedEnvironment, environment_home

HOME_VARIABLE = "GRADUS_EXPORT_HOME"
MARKER = "gradus-export.json"
AGAIN = "`gradus export install`"
_PROBE = """\
import importlib.metadata, json, llmcompressor, torch, transformers
from llmcompressor.modifiers.transform.awq import AWQModifier
print(json.dumps({"llmcompressor": importlib.metadata.version("llmcompressor"),
                  "torch": torch.__version__, "transformers": transformers.__version__}))
"""


def checkout() -> Path:
    """The folder above the ``pipeline`` package: pyproject.toml, requirements/, environments."""
    return Path(__file__).resolve().parents[2]


def lock_file() -> Path:
    """The lock file that the environment is made from."""
    return checkout() / "requirements" / "export.lock"


def export_environment() -> LockedEnvironment:
    """The environment, made or not: ``GRADUS_EXPORT_HOME``, else beside pyproject.toml."""
    return LockedEnvironment(
        name="export",
        home=environment_home(HOME_VARIABLE, checkout() / ".venv-export"),
        lock=lock_file(),
        marker=MARKER,
        holds="llm-compressor",
        probe=_PROBE,
        again=AGAIN,
    )


def install_export(echo: Callable[[str], None]) -> Path:
    """Makes the environment where it is not current; its folder.

    Raises:
        EngineError: pip failed, or what it installed does not import.
    """
    environment = export_environment()
    made = environment.make(echo)
    version = (environment.told() or {}).get("llmcompressor")
    state = "ready" if made else "installed"
    echo(f"export: llm-compressor {version} is {state} at {environment.home}")
    return environment.home
