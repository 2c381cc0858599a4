"""The training benchmark: speed against transformers' Trainer, TRL and a loop by hand.

python -m benchmarks.train [--json] [--rows N] [--turns N] [--tiny]

All train the same LoRA on the same rows from the same weights in float32, each in a process of
its own; they take turns of one pass over the rows, A B C A B C, and only one runs at a time.
Speeds are of real tokens; a turn's CPU seconds beside its seconds show whether the machine was
idle. The adapters that come out are judged by transformers' own loss on rows that nobody trained
on, and must be equally good.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peer import peer_python
from benchmarks.train_case import Case, build_case, read_case, source
from benchmarks.train_chain import measure as chain
from benchmarks.train_turns import Contestant

TRL = "trl==1.16.0"
# Half as wide as Qwen3-0.6B, and the vocabulary in proportion: a quarter of a token's products.
SHAPE = {
    "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 16_384,
}  # fmt: skip
TINY = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 512,
}  # fmt: skip
# Losses on held-out rows may differ by this share: rows meet in other updates. The loop by hand
# has our own tensors, and must end where we do.
LOSS_TOLERANCE = 0.02
SAME_TENSORS_TOLERANCE = 1e-4
TARGETS = {
    "unpacked_vs_trainer": (0.97, "at least"),
    "packed_vs_trainer": (1.6, "at least"),
    "packed_vs_trl": (1.2, "at least"),
    "step_overhead": (1.10, "at most"),
}


def main() -> None:
    """Measures, prints a table, and with --json one line of quotients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=64, help="rows of a turn")
    parser.add_argument("--turns", type=int, default=5, help="timed turns of each contestant")
    parser.add_argument("--tiny", action="store_true", help="a model that tests nothing but this")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gradus-benchmark-") as folder:
        place = Path(folder)
        threads = len(os.sched_getaffinity(0))
        path = build_case(
            place, shape=TINY if asked.tiny else SHAPE, rows=asked.rows,
            global_batch=min(32, asked.rows), micro=8, block=1024, turns=asked.turns,
            threads=threads,
        )  # fmt: skip
        case = read_case(str(path))
        _tell(case)
        contestants = _contestants(path, place, threads)
        told = _raced(contestants, asked.turns)
        losses = {"before training": _loss(case, None)}
        losses |= {c.name: _loss(case, place / "out" / c.name) for c in contestants}
    _table(case, contestants, told, losses)
    for name, seconds in chain().items():
        print(f"chain: {name}: first update {seconds:.2f} s after the last one before (at most 2)")
    quotients = _quotients({c.name: c.seconds for c in contestants})
    for name, value in quotients.items():
        limit, word = TARGETS[name]
        print(f"{name}: {value:.3f} ({word} {limit})")
    _require_equal(losses)
    if asked.json:
        print(json.dumps(quotients))


def _tell(case: Case) -> None:
    rows = len(Path(case.rows).read_text().splitlines())
    print(f"model: Qwen3 {case.shape}; LoRA r {case.lora_r} on all linear layers, float32")
    print(f"rows: {rows}, {source()}; {case.tokens:,} tokens, {case.targets:,} learned")
    print(
        f"padded: {case.global_batch} rows an update, {case.micro} at once, padded to the longest: "
        f"{case.padding:.1%} of the slots are padding in random order"
    )
    print(
        f"packed: {case.blocks} blocks of {case.block}, {case.blocks_at_once} an update; "
        f"padding {1 - case.tokens / (case.blocks * case.block):.1%}"
    )
    print(f"a turn: {case.updates} updates, every row once; threads: {case.threads}", flush=True)


def _contestants(path: Path, place: Path, threads: int) -> list[Contestant]:
    own: list[str | Path] = [sys.executable, "-m", "benchmarks.train_own"]
    hand: list[str | Path] = [sys.executable, "-m", "benchmarks.train_hand"]
    trl = peer_python("trl", [TRL], beside_main=True)
    peer: list[str | Path] = [trl, "-m", "benchmarks.train_trainer"]
    commands: dict[str, tuple[list[str | Path], list[str]]] = {
        "unpacked": (own, ["unpacked"]),
        "packed": (own, ["packed"]),
        "trainer": (peer, ["trainer"]),
        # Blocks that are taken at once are one row for its attention; its own default is 8.
        "trl-1": (peer, ["trl", "1"]),
        "trl-2": (peer, ["trl", "2"]),
        "hand": (hand, []),
    }
    ready = []
    for name, (program, settings) in commands.items():
        command = [*program, path, place / "out" / name, *settings]
        ready.append(Contestant(name, command, threads, place))
        # One warms up after the other, too.
        ready[-1].answer()
    return ready


def _raced(contestants: Sequence[Contestant], turns: int) -> dict[str, dict[str, Any]]:
    try:
        for _ in range(turns):
            for contestant in contestants:
                contestant.turn()
        return {contestant.name: contestant.end() for contestant in contestants}
    finally:
        for contestant in contestants:
            contestant.stop()


def _loss(case: Case, adapter: Path | None) -> float:
    """Mean loss of the held-out rows, one by one, by transformers' own code."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(case.root, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    model.eval()
    summed = count = 0.0
    for line in Path(case.held_out).read_text().splitlines():
        row = {name: torch.tensor([values]) for name, values in json.loads(line).items()}
        targets = int((row["labels"][:, 1:] != -100).sum())
        with torch.no_grad():
            summed += float(model(**row).loss) * targets
        count += targets
    return summed / count


def _quotients(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Medians over the turns of quotients within each turn."""

    def median(over: str, under: str) -> float:
        pairs = zip(seconds[over], seconds[under], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 3)

    faster = min(("trl-1", "trl-2"), key=lambda name: statistics.median(seconds[name]))
    return {
        "unpacked_vs_trainer": median("trainer", "unpacked"),
        "packed_vs_trainer": median("trainer", "packed"),
        "packed_vs_trl": median(faster, "packed"),
        "step_overhead": median("unpacked", "hand"),
    }


def _table(
    case: Case,
    contestants: Sequence[Contestant],
    told: Mapping[str, Mapping[str, Any]],
    losses: Mapping[str, float],
) -> None:
    print(f"held-out loss before training: {losses['before training']:.4f}")
    heads = f"{'s a turn':>10}{'its CPU s':>11}{'tokens/s':>10}{'held-out loss':>15}"
    print(f"{'medians':<10}{heads}   every turn")
    for one in contestants:
        middle = statistics.median(one.seconds)
        turns = " ".join(f"{seconds:.2f}" for seconds in one.seconds)
        print(
            f"{one.name:<10}{middle:>10.2f}{statistics.median(one.cpu_seconds):>11.2f}"
            f"{case.tokens / middle:>10.0f}"
            f"{losses[one.name]:>15.4f}   {turns}"
        )
    for name, facts in told.items():
        print(f"{name}: {json.dumps(facts)}")


def _require_equal(losses: Mapping[str, float]) -> None:
    found = [loss for name, loss in losses.items() if name != "before training"]
    apart = (max(found) - min(found)) / min(found)
    by_hand = abs(losses["hand"] / losses["unpacked"] - 1)
    print(
        f"held-out losses differ by {apart:.2%} at most (allowed {LOSS_TOLERANCE:.0%}); unpacked "
        f"and by hand by {by_hand:.1e} (allowed {SAME_TENSORS_TOLERANCE:.0e})"
    )
    if apart > LOSS_TOLERANCE or by_hand > SAME_TENSORS_TOLERANCE:
        raise SystemExit("the contestants did not train the same: their speeds say nothing")


if __name__ == "__main__":
    main()
