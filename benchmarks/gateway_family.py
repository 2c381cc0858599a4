"""One engine for the whole family against one for its base alone: memory, and mixed traffic.

A random model in the shape of Qwen3-0.6B in bfloat16, and two adapters over all of its linear
layers, as an L1 and an L2 that holds it. Memory is the proportional set size of all of the
engine's processes, after the same traffic, each engine alone on the machine; the room of the KV
cache, which either engine takes whole at its start, is taken off. Then both engines run, and
`vllm bench serve` asks them in turns: the family for base, L1 and L2 one after the other.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.bundle import Bundle
    from serve.engine_install import EngineHome
    from serve.vllm_engine import VllmEngine

FIGURES = ("family_memory_ratio", "family_throughput_ratio")
TURNS = 3
RANKS = {"demo-l1": 16, "demo-l2": 32}


@dataclass(frozen=True)
class Size:
    """The shape, and how much is asked."""

    shape: dict[str, Any]
    prompts: int = 12
    input_tokens: int = 32
    output_tokens: int = 32
    concurrency: int = 6
    max_length: int = 512


def full_size() -> Size:
    """What is reported."""
    from benchmarks.gateway_model import QWEN3_06B

    return Size(QWEN3_06B)


def measure(turns: int = TURNS, size: Size | None = None) -> dict[str, float]:
    """Measures both, prints a table, and returns the quotients.

    Raises:
        EngineError: vLLM is not installed or does not start, or a request failed.
    """
    from benchmarks.gateway_bench import engine_home
    from benchmarks.gateway_model import bundle_of, write_adapter, write_base

    size = size or full_size()
    home = engine_home()
    with tempfile.TemporaryDirectory(prefix="gradus-benchmark-") as name:
        folder = Path(name)
        write_base(folder / "base", size.shape, size.max_length)
        for adapter, rank in RANKS.items():
            write_adapter(folder / adapter, size.shape, size.max_length, rank)
        alone = bundle_of(folder / "base", {}, folder, size.max_length)
        family = bundle_of(folder / "base", RANKS, folder, size.max_length)
        race = _Race(home, folder, size)
        with race.started(alone) as engine:
            # The first traffic of either engine: what it allocates then is counted too.
            race.asked(alone, engine)
            base_bytes = race.held_bytes(engine)
        with race.started(family) as whole:
            race.asked(family, whole)
            family_bytes = race.held_bytes(whole)
            with race.started(alone) as engine:
                race.asked(alone, engine)
                pairs = [
                    (race.asked(alone, engine), race.asked(family, whole)) for _ in range(turns)
                ]
    speeds = [statistics.median(pair[column] for pair in pairs) for column in (0, 1)]
    print(f"{'':<16}{'MB without KV cache':>21}{f'tokens/s at {size.concurrency}':>17}")
    for told, held, speed in zip(
        ("base alone", "base + L1 + L2"), (base_bytes, family_bytes), speeds, strict=True
    ):
        print(f"{told:<16}{held / 1e6:>21,.0f}{speed:>17.1f}")
    return {
        "family_memory_ratio": family_bytes / base_bytes,
        "family_throughput_ratio": statistics.median(both / one for one, both in pairs),
    }


class _Race:
    """Two engines, asked in the same way."""

    def __init__(self, home: EngineHome, folder: Path, size: Size) -> None:
        self._home, self._folder, self._size = home, folder, size
        self._seed = 0

    @contextlib.contextmanager
    def started(self, bundle: Bundle) -> Any:
        """The engine of a bundle as `gradus serve` starts it; without adapters, no LoRA at all."""
        from serve.versions import ROOM
        from serve.vllm_engine import VllmEngine

        # As it is served: with room for versions that come in while it runs.
        engine = VllmEngine(bundle, self._home, room=ROOM)
        try:
            engine.start()
            engine.wait_ready()
            yield engine
        finally:
            engine.stop()

    def asked(self, bundle: Bundle, engine: VllmEngine) -> float:
        """Tokens a second of traffic that is spread over all of the bundle's models."""
        from benchmarks.gateway_bench import Load, bench

        size = self._size
        self._seed += 1
        load = Load(
            size.prompts, size.input_tokens, size.output_tokens, size.concurrency, self._seed
        )
        models = [model.name for model in bundle.models]
        tokenizer = bundle.base.path
        told = bench(self._home, self._folder, engine.base_url, models, tokenizer, load)
        return told.tokens_per_s

    def held_bytes(self, engine: VllmEngine) -> float:
        """Proportional set size without the KV cache, which is resident from its first second."""
        from benchmarks.gateway_sides import pss_bytes
        from serve.vllm_engine import variables

        assert engine.pid is not None
        cache_bytes = int(variables(self._home)["VLLM_CPU_KVCACHE_SPACE"]) * 2**30
        return pss_bytes(engine.pid) - cache_bytes
