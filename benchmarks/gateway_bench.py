"""`vllm bench serve`, vLLM's own load client, from the engine's environment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serve.engine_install import EngineHome

_PATIENCE_S = 900.0


@dataclass(frozen=True)
class Load:
    """What is asked.

    Attributes:
        prompts: how many, of ``input_tokens`` random tokens each.
        output_tokens: of each answer, exactly.
        concurrency: requests under way at once.
        seed: of the prompts; one that was used before is found in the engine's cache.
    """

    prompts: int
    input_tokens: int
    output_tokens: int
    concurrency: int
    seed: int


@dataclass(frozen=True)
class Served:
    """What one run measured.

    Attributes:
        ttft_s: to the first token, median.
        tokens_per_s: written, of all requests together.
    """

    ttft_s: float
    tokens_per_s: float


def engine_home() -> EngineHome:
    """The environment of vLLM's CPU build.

    Raises:
        EngineError: it is not installed, or made from another lock file.
    """
    from pipeline.core.errors import EngineError
    from serve.engine_install import default_home, read_home
    from serve.vllm_engine import require_current

    home = read_home(default_home("cpu"))
    if home is None:
        raise EngineError(
            "engine vllm: not installed; run `gradus engine install --device cpu` first"
        )
    require_current(home)
    return home


def bench(
    home: EngineHome,
    folder: Path,
    url: str,
    models: Sequence[str],
    tokenizer: Path,
    load: Load,
    key: str = "none",
) -> Served:
    """Runs it once against ``url``.

    Args:
        models: asked in turn.
        folder: for its result.

    Raises:
        EngineError: it failed, or a request of it did.
    """
    from pipeline.core.errors import EngineError
    from serve.child import clean_environment
    from serve.vllm_engine import variables

    result = folder / "bench.json"
    result.unlink(missing_ok=True)
    command: list[str | Path] = [
        home.python, "-m", "vllm.entrypoints.cli.main", "bench", "serve",
        "--backend", "openai", "--base-url", url, "--endpoint", "/v1/completions",
        "--model", models[0], "--tokenizer", tokenizer, "--dataset-name", "random",
        "--random-input-len", str(load.input_tokens),
        "--random-output-len", str(load.output_tokens), "--ignore-eos", "--temperature", "0",
        "--num-prompts", str(load.prompts), "--max-concurrency", str(load.concurrency),
        "--num-warmups", "1", "--seed", str(load.seed), "--disable-tqdm",
        "--save-result", "--result-dir", folder, "--result-filename", result.name,
    ]  # fmt: skip
    if len(models) > 1:
        command += ["--lora-modules", *models, "--lora-assignment", "round-robin"]
    done = subprocess.run(
        [str(part) for part in command],
        env=clean_environment(**variables(home), OPENAI_API_KEY=key, NO_PROXY="127.0.0.1"),
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode or not result.is_file():
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise EngineError(f"vllm bench serve: failed: {' | '.join(lines[-3:])}")
    told = json.loads(result.read_text())
    if told["completed"] != load.prompts:
        raise EngineError(
            f"vllm bench serve: {told['completed']} of {load.prompts} requests to {url} completed"
        )
    return Served(told["median_ttft_ms"] / 1e3, told["output_throughput"])
