"""The serving benchmarks: the gateway beside its peers, before the real vLLM, and the family.

python -m benchmarks.gateway [--json] [--parts stub vllm family] [--turns N]

Both sides of each quotient are measured in this run and take turns. LiteLLM's environment is made
at the first use; vLLM's by `gradus engine install --device cpu`. A part whose engine or peer is
missing says so in one line, and its figures are null.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

from benchmarks import gateway_family, gateway_stub, gateway_vllm

PARTS = {"stub": gateway_stub, "vllm": gateway_vllm, "family": gateway_family}
TARGETS = {
    "added_p50_vs_litellm": (0.1, "at most"),
    "added_p50_vs_bare": (2.0, "at most"),
    "rps_vs_litellm": (10.0, "at least"),
    "rps_vs_direct": (0.25, "at least"),
    "chunks_vs_direct": (0.4, "at least"),
    "memory_vs_litellm": (0.25, "at most"),
    "vllm_ttft_ratio": (1 + gateway_vllm.MORE_SHARE, "at most, or 2 ms more:"),
    "vllm_throughput_ratio": (0.98, "at least"),
    "family_memory_ratio": (1.15, "at most"),
    # Demanded on a GPU only.
    "family_throughput_ratio": (0.8, "on a GPU at least"),
}


def main() -> int:
    """Measures the parts, prints tables, and with --json ends with one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--turns", type=int, help="turns of each side (each part has its own)")
    asked = parser.parse_args()
    # What was started is ended, and folders go, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: dict[str, float | None] = {}
    for name in asked.parts:
        found |= _part(name, asked.turns)
    for name, value in found.items():
        limit, word = TARGETS[name]
        print(f"{name}: {'not measured' if value is None else f'{value:.3f}'} ({word} {limit:g})")
    if asked.json:
        print(json.dumps({n: None if v is None else round(v, 4) for n, v in found.items()}))
    return int(None in found.values())


def _part(name: str, turns: int | None) -> dict[str, float | None]:
    from benchmarks.gateway_client import Broken
    from pipeline.core.errors import GradusError

    part = PARTS[name]
    print(f"--- {name}", flush=True)
    try:
        measured = part.measure() if turns is None else part.measure(turns)
        return {figure: measured[figure] for figure in part.FIGURES}
    except (GradusError, Broken) as error:
        print(f"benchmarks.gateway: {name}: {error}", file=sys.stderr)
        return dict.fromkeys(part.FIGURES)


if __name__ == "__main__":
    raise SystemExit(main())
