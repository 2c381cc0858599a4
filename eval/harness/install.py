"""The harness's own environment: its dependencies are many, and nothing here needs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.core.environments import LockedEnvironment, environment_home

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


def harness_python(echo: Callable[[str], None]) -> Path:
    """The interpreter of the environment, which is made where it is not there yet.

    Args:
        echo: told each step of an installation; silent where nothing is to be done.

    Raises:
        EngineError: pip failed, or what it installed does not import.
    """
    environment = LockedEnvironment(
        name="harness",
        home=environment_home(HOME_VARIABLE, checkout() / ".venv-harness"),
        lock=lock_file(),
        marker=MARKER,
        holds=f"lm-evaluation-harness {VERSION}",
        probe=_PROBE,
        again="it",
    )
    environment.make(echo)
    return environment.python
