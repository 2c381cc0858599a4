"""A ladder small enough to run whole in a test: recipes and rows made on the spot."""

from __future__ import annotations

import json
import random
from pathlib import Path

TOPICS = {
    "weather": ["rain", "sun", "wind", "cloud", "storm"],
    "kitchen": ["pan", "knife", "oven", "spoon", "salt"],
    "harbour": ["ship", "rope", "sail", "anchor", "crane"],
}

L0 = """\
name: tiny-l0
level: L0
scratch:
  {vocab_size: 320, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2,
   num_key_value_heads: 1, intermediate_size: 64, max_position_embeddings: 128}
data:
  train: {path: general.jsonl}
  validation: {carve: 0.1}
  test: {path: general-test.jsonl}
train:
  {objective: pretrain, method: full, packing: true, max_length: 32, global_batch_size: 8,
   max_steps: 12, learning_rate: 3.0e-3, precision: fp32, save_steps: 3}
"""
L1 = """\
name: tiny-l1
level: L1
base: l0.yaml
data:
  train: {path: domain.jsonl}
  validation: {carve: 0.1}
  test: {path: domain-test.jsonl}
  replay: {recipe: l0.yaml, share: 0.2}
train:
  {objective: cpt, method: lora, lora_r: 4, packing: true, max_length: 32, global_batch_size: 8,
   max_steps: 8, learning_rate: 3.0e-3, precision: fp32, save_steps: 3}
evaluate:
  suites: {general: {recipe: l0.yaml}}
"""
L2 = """\
name: tiny-task
level: L2
base: l1.yaml
data:
  train: {path: task.jsonl, format: classification}
  validation: {carve: 0.2}
  test: {path: task-test.jsonl, format: classification}
train:
  {objective: [sft, classify], method: lora, lora_r: 4, global_batch_size: 8, max_steps: 8,
   learning_rate: 3.0e-3, max_length: 64, precision: fp32, save_steps: 3, lora_dropout: 0.1}
evaluate:
  suites: {general: {recipe: l0.yaml}, domain: {recipe: l1.yaml}}
  forgetting: false
  references: []
  control: l2-from-l0.yaml
gates:
  - {suite: test, metric: contamination, at_most: 0}
serve: {export: [stacked, merged], max_model_len: 128}
"""
CONTROL = """\
extends: l2.yaml
name: tiny-task-from-l0
base: l0.yaml
evaluate: {control: null}
gates: []
"""


def _sentence(rng: random.Random, words: list[str]) -> str:
    return " ".join(rng.choice([*words, "the", "a", "and"]) for _ in range(8))


def write_ladder(folder: Path) -> Path:
    """Writes recipes and data into ``folder``; the L2 recipe's path."""
    rng = random.Random(3)
    everything = [word for words in TOPICS.values() for word in words]
    files = {
        "general": [{"text": _sentence(rng, everything)} for _ in range(60)],
        "general-test": [{"text": _sentence(rng, everything)} for _ in range(8)],
        "domain": [{"text": _sentence(rng, TOPICS["harbour"])} for _ in range(40)],
        "domain-test": [{"text": _sentence(rng, TOPICS["harbour"])} for _ in range(8)],
    }
    for name, count in (("task", 20), ("task-test", 8)):
        files[name] = [
            {"text": _sentence(rng, words), "label": topic}
            for topic, words in TOPICS.items()
            for _ in range(count)
        ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for name, text in (("l0", L0), ("l1", L1), ("l2", L2), ("l2-from-l0", CONTROL)):
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / "l2.yaml"


def objective(ladder: Path, name: str, more: str = "") -> None:
    """Makes the L2 train one objective, without its control."""
    text = ladder.read_text().replace("objective: [sft, classify]", f"objective: {name}")
    text = text.replace("  control: l2-from-l0.yaml\n", "")
    ladder.write_text(text + more)
