"""A chain of trainings under `gradus run`: how long from the end of one to the next one's start."""

from __future__ import annotations

import itertools
import json
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_WORDS = ["card", "account", "payment", "sent", "bank", "order", "late", "limit", "refund", "fee"]
_RECIPES = {
    "l0": """\
name: chain-l0
level: L0
scratch:
  {vocab_size: 320, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2,
   num_key_value_heads: 1, intermediate_size: 64, max_position_embeddings: 128}
data: {train: {path: l0.jsonl}, validation: {carve: 0.1}}
train:
  {objective: pretrain, method: full, packing: true, max_length: 64, global_batch_size: 8,
   max_steps: 60, learning_rate: 3.0e-3, precision: fp32}
""",
    "l1": """\
name: chain-l1
level: L1
base: l0.yaml
data: {train: {path: l1.jsonl}, validation: {carve: 0.1}}
train:
  {objective: cpt, method: lora, lora_r: 4, packing: true, max_length: 64, global_batch_size: 8,
   max_steps: 60, learning_rate: 3.0e-3, precision: fp32}
""",
    "l2": """\
name: chain-l2
level: L2
base: l1.yaml
data: {train: {path: l2.jsonl}, validation: {carve: 0.1}}
train:
  {objective: cpt, method: lora, lora_r: 4, packing: true, max_length: 64, global_batch_size: 8,
   max_steps: 60, learning_rate: 3.0e-3, precision: fp32}
""",
}


def measure(jobs: int | None = None) -> dict[str, float]:
    """Seconds from a training's last update to the next one's first, by the next one's name.

    Three levels are trained: the first pays for imports, the others must not. What stands
    between two trainings (the artifact's digests, the export of an adapter) is in the seconds.
    """
    from pipeline.conduct import without_bundle
    from pipeline.core.store import Store
    from pipeline.ladder import make_plan
    from pipeline.run import execute

    first: dict[str, float] = {}
    last: dict[str, float] = {}

    def note(event: Mapping[str, Any]) -> None:
        now, node = time.monotonic(), str(event["node"])
        if event["kind"] == "progress" and "loss" in event:
            first.setdefault(node, now)
            last[node] = now

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for seed, (name, text) in enumerate(_RECIPES.items()):
            (place / f"{name}.yaml").write_text(text)
            _write_rows(place / f"{name}.jsonl", seed)
        store = Store(place / "store")
        plan = without_bundle(make_plan(place / "l2.yaml", store))
        execute(plan, store, jobs=jobs, on_event=note)
    order = sorted(first, key=first.__getitem__)
    pairs = itertools.pairwise(order)
    return {after: first[after] - last[before] for before, after in pairs}


def _write_rows(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    rows = [{"text": " ".join(rng.choices(_WORDS, k=20))} for _ in range(400)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    for name, seconds in measure().items():
        print(f"{name}: {seconds:.2f} s")
