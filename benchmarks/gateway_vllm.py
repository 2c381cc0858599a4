"""The real vLLM on a CPU, alone and behind our gateway with everything switched on.

A small random model, prompts of 512 tokens, `vllm bench serve` as the client of both; they take
turns at concurrency 1 and 16, and each quotient is the median over turns. Time to first token is
taken at concurrency 1, where no request waits for another one; tokens a second, the worse of both.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gateway_bench import Served
    from serve.engine_install import EngineHome

FIGURES = ("vllm_ttft_ratio", "vllm_throughput_ratio")
TURNS = 4
MODEL = "demo-l0"
# What a first token may take longer, whichever is larger.
MORE_SHARE, MORE_S = 0.02, 0.002


@dataclass(frozen=True)
class Size:
    """How much is asked.

    Attributes:
        levels: concurrency to prompts.
        max_length: of the engine, in tokens.
    """

    shape: dict[str, Any]
    levels: dict[int, int]
    input_tokens: int = 512
    output_tokens: int = 64
    max_length: int = 1024


def full_size() -> Size:
    """What is reported."""
    from benchmarks.gateway_model import SMALL

    return Size(SMALL, {1: 16, 16: 64})


def measure(turns: int = TURNS, size: Size | None = None) -> dict[str, float]:
    """Measures both, prints a table, and returns the quotients.

    Raises:
        EngineError: vLLM is not installed or does not start, or a request failed.
    """
    from benchmarks import gateway_sides as sides
    from benchmarks.gateway_bench import engine_home
    from benchmarks.gateway_model import bundle_of, write_base
    from serve.vllm_engine import VllmEngine

    size = size or full_size()
    home = engine_home()
    print(
        f"vLLM {home.vllm} on a CPU: prompts of {size.input_tokens} tokens, "
        f"answers of {size.output_tokens}"
    )
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gradus-benchmark-")))
        base = folder / "base"
        write_base(base, size.shape, size.max_length)
        engine = VllmEngine(bundle_of(base, {}, folder, size.max_length), home)
        stack.callback(engine.stop)
        engine.start()
        engine.wait_ready()
        ours = stack.enter_context(sides.ours(folder, engine.base_url, MODEL))
        asked = {
            "vLLM": (engine.base_url, "none"),
            "with ours": (f"http://127.0.0.1:{ours.port}", ours.key),
        }
        return _quotients(_raced(home, folder, base, asked, size, turns))


def _raced(
    home: EngineHome,
    folder: Path,
    base: Path,
    asked: Mapping[str, tuple[str, str]],
    size: Size,
    turns: int,
) -> dict[int, list[dict[str, Served]]]:
    """Concurrency to each turn's figures, by name; ``asked`` maps a name to its URL and key."""
    from benchmarks.gateway_bench import Load, bench

    found: dict[int, list[dict[str, Served]]] = {level: [] for level in size.levels}
    seed = 0
    for turn in range(turns):
        for level, prompts in size.levels.items():
            told = {}
            # Who goes first changes: a machine's speed drifts within a turn.
            for name in sorted(asked, reverse=bool(turn % 2)):
                seed += 1
                url, key = asked[name]
                load = Load(prompts, size.input_tokens, size.output_tokens, level, seed)
                told[name] = bench(home, folder, url, [MODEL], base, load, key)
            found[level].append(told)
    return found


def _quotients(found: dict[int, list[dict[str, Served]]]) -> dict[str, float]:
    print(f"{'at once':<9}{'':<12}{'first token ms':>16}{'tokens/s':>12}")
    ttft: dict[int, float] = {}
    speed: dict[int, float] = {}
    more_s: dict[int, float] = {}
    for level, rounds in found.items():
        for name in rounds[0]:
            first = 1e3 * statistics.median(told[name].ttft_s for told in rounds)
            rate = statistics.median(told[name].tokens_per_s for told in rounds)
            print(f"{level:<9}{name:<12}{first:>16.2f}{rate:>12.1f}")
        pairs = [(told["vLLM"], told["with ours"]) for told in rounds]
        ttft[level] = statistics.median(ours.ttft_s / alone.ttft_s for alone, ours in pairs)
        more_s[level] = statistics.median(ours.ttft_s - alone.ttft_s for alone, ours in pairs)
        speed[level] = statistics.median(
            ours.tokens_per_s / alone.tokens_per_s for alone, ours in pairs
        )
        print(
            f"{level:<9}first token {ttft[level]:.3f} ({1e3 * more_s[level]:+.2f} ms), "
            f"tokens/s {speed[level]:.3f} of vLLM's own"
        )
    alone_level = min(found)
    within = ttft[alone_level] <= 1 + MORE_SHARE or more_s[alone_level] <= MORE_S
    print(
        f"first token at {alone_level}: {'within' if within else 'NOT within'} "
        f"{MORE_SHARE:.0%} or {1e3 * MORE_S:g} ms, whichever is larger"
    )
    return {"vllm_ttft_ratio": ttft[alone_level], "vllm_throughput_ratio": min(speed.values())}
