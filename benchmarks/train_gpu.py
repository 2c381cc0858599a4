"""Training on one GPU against transformers' Trainer with PEFT: speed, use of the card, memory.

python -m benchmarks.train_gpu [--json]                                on a GPU; under nine minutes
python -m benchmarks.train_gpu --device cpu --tiny --no-compile        the same code, to test it

Needs no weights and no hub: the shapes stand below and the weights are random. On a bare
machine with this checkout: pip install torch transformers peft accelerate bitsandbytes pydantic
pyyaml pyarrow numpy (what is imported; Triton comes with torch). Our own side is the product's
loop as a recipe runs it; only reading the weights from disk is replaced.

Both sides get the same blocks of 2,048 tokens, as many at once, as many an update. To the peer a
block is one row: it wastes nothing on padding, and does not keep the rows in it apart. MFU is the
floating-point operations that are needed (a frozen weight needs no gradient, a token looks only
at its own row, the vocabulary is projected where a token is learned) by the second, over the
rate of a large bf16 product on the same card.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peer import ROOT
from benchmarks.train_gpu_case import CASES, planned_bytes, read_case, write_case

# Of the whole run, and of one side of one case: imports, building, compiling and updates.
BUDGET_S = 525.0
SIDE_S = {"own": 130.0, "peer": 75.0}
TARGETS = {
    "lora_mfu": (0.50, "at least"), "qlora_mfu": (0.35, "at least"),
    "lora_speed": (1.5, "at least"), "qlora_speed": (1.5, "at least"),
    "full_speed": (1.5, "at least"), "lora_memory": (0.6, "at most"),
    "qlora_memory": (0.6, "at most"), "full_memory": (0.6, "at most"),
}  # fmt: skip


def main() -> None:
    """Measures what the time allows, prints a table, and with --json one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="shapes that measure nothing")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument(
        "--seconds", type=float, default=BUDGET_S, help="what is not begun by then is left out"
    )
    parser.add_argument("--cases", nargs="+", choices=sorted(CASES), default=list(CASES))
    asked = parser.parse_args()
    began, ends = time.monotonic(), time.monotonic() + asked.seconds
    rate = _rate(asked.device, asked.tiny)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="gradus-benchmark-") as folder:
        for name in asked.cases:
            path = write_case(
                Path(folder) / name, name, device=asked.device, tiny=asked.tiny,
                compiled=not asked.no_compile,
            )  # fmt: skip
            for side in ("own", "peer"):
                told = _measured([str(path), side], SIDE_S[side], ends)
                print(_line(f"{name} {side}", told, rate), flush=True)
                if side == "own" and "problem" in told and not asked.no_compile:
                    told = _measured([str(path), side, "uncompiled"], SIDE_S["peer"], ends)
                    print(_line(f"{name} {side}", told, rate), flush=True)
                found[f"{name} {side}"] = told
            planned = planned_bytes(read_case(str(path)))  # as it was asked for: compiled
            found[f"{name} own"].setdefault("planned_bytes", planned)
            print(f"{name} plan: at most {planned / 1e9:.2f} GB", flush=True)
    quotients = _quotients(found, rate)
    for name, value in quotients.items():
        limit = TARGETS.get(name)
        print(f"{name}: {value:.3f}" + (f" ({limit[1]} {limit[0]})" if limit else ""))
    print(f"seconds in all: {time.monotonic() - began:.0f}")
    if asked.json:
        print(json.dumps({**quotients, "matrix_tflops": round(rate / 1e12, 2)}))


def _rate(device: str, tiny: bool) -> float:
    """FLOP/s of a large bf16 product, the best of five; prints the card."""
    code = "from benchmarks.train_gpu_case import matrix_rate; matrix_rate({!r}, {})"
    done = _process(["-c", code.format(device, 256 if tiny else 8192)], 90.0)
    if "problem" in done:
        raise SystemExit(f"no {device} to measure on: {done['problem']}")
    print(
        f"{done['card']}; torch {done['torch']}; bf16 product: {done['rate'] / 1e12:,.2f} TFLOP/s"
    )
    for name, version in done["packages"].items():
        print(f"  {name} {version}")
    return float(done["rate"])


def _measured(arguments: list[str], seconds: float, ends: float) -> dict[str, Any]:
    left = min(seconds, ends - time.monotonic())
    if left < 15:
        return {"problem": "no time left"}
    return _process(["-m", "benchmarks.train_gpu_side", *arguments], left)


def _process(arguments: list[str], seconds: float) -> dict[str, Any]:
    """What a process of its own says last: memory is given back, and a crash stays its own."""
    command = [sys.executable, *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"problem": f"not done after {seconds:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        print(done.stderr[-4000:], file=sys.stderr)
        tail = [line for line in done.stderr.strip().splitlines() if line.strip()][-1:]
        return {"problem": f"ended with {done.returncode}: {' '.join(tail)[:300]}"}
    told: dict[str, Any] = json.loads(lines[-1])
    return told


def _line(name: str, told: Mapping[str, Any], rate: float) -> str:
    if "problem" in told:
        return f"{name:<12} {told['problem']}"
    return (
        f"{name:<12}{told['tokens_per_s']:>10,.0f} tokens/s   MFU {_mfu(told, rate):.3f}   "
        f"peak {told['peak_bytes'] / 1e9:7.2f} GB   {told['note']}"
    )


def _mfu(told: Mapping[str, Any], rate: float) -> float:
    return float(told["flops_per_token"]) * float(told["tokens_per_s"]) / rate


def _quotients(found: Mapping[str, Mapping[str, Any]], rate: float) -> dict[str, float]:
    made = {}
    for name in CASES:
        own, peer = found.get(f"{name} own", {}), found.get(f"{name} peer", {})
        if "tokens_per_s" in own:
            made[f"{name}_mfu"] = round(_mfu(own, rate), 4)
            made[f"{name}_planned_memory"] = round(own["planned_bytes"] / own["peak_bytes"], 3)
        if "tokens_per_s" in own and "tokens_per_s" in peer:
            made[f"{name}_speed"] = round(own["tokens_per_s"] / peer["tokens_per_s"], 3)
            made[f"{name}_memory"] = round(own["peak_bytes"] / peer["peak_bytes"], 3)
    return made


if __name__ == "__main__":
    main()
