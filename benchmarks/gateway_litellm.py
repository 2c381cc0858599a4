"""LiteLLM's proxy as a peer: an environment of its own, one key, no database, one worker."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.peer import ROOT

HOME = ROOT / ".venv-peer-litellm"
LOCK = ROOT / "requirements" / "litellm.lock"
KEY = "sk-benchmark"
_PROBE = """\
import importlib.metadata, json
import litellm.proxy.proxy_server
print(json.dumps({"litellm": importlib.metadata.version("litellm")}))
"""


def install_litellm() -> str:
    """Makes LiteLLM's environment where it is not there yet; its version.

    Raises:
        EngineError: pip failed, or what it installed does not import.
    """
    from pipeline.core.environments import LockedEnvironment

    environment = LockedEnvironment(
        name="litellm",
        home=HOME,
        lock=LOCK,
        marker="gradus-peer.json",
        holds="LiteLLM's proxy",
        probe=_PROBE,
        again="the benchmark",
    )
    environment.make(lambda line: print(line, file=sys.stderr))
    return str((environment.told() or {})["litellm"])


def command(folder: Path, upstream: str, model: str, port: int) -> list[str | Path]:
    """The command that starts it before ``upstream``; writes its configuration into ``folder``."""
    parameters = {"model": f"openai/{model}", "api_base": f"{upstream}/v1", "api_key": "none"}
    told = {
        "model_list": [{"model_name": model, "litellm_params": parameters}],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": False},
    }
    place = folder / "litellm.yaml"
    # JSON is YAML.
    place.write_text(json.dumps(told))
    return [
        HOME / "bin" / "litellm", "--config", place, "--host", "127.0.0.1", "--port", str(port),
        "--num_workers", "1",
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """What its manual advises for production: no debugging, nothing logged but errors."""
    return {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        # Its table of prices comes from the package and not from the world.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
