"""Rows of three topics, a tiny base with weights, and the stage run over them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from eval.references.stage import Reference
from pipeline.core.artifact import Artifact, Manifest, scan_files
from pipeline.core.stage import StageContext
from pipeline.stages.scratch import train_tokenizer
from tests.data.preparing import prepare

TOPICS = {
    "weather": ["rain", "sun", "wind", "cloud", "storm", "frost"],
    "kitchen": ["pan", "knife", "oven", "spoon", "salt", "plate"],
    "harbour": ["ship", "rope", "sail", "anchor", "crane", "tide"],
}
_SHARED = ["the", "a", "and", "old", "new", "near", "salt", "wind"]


def rows(number: int, seed: int, topics: Mapping[str, list[str]] = TOPICS) -> list[dict[str, str]]:
    """As many rows of each topic, no text twice; some words belong to two topics."""
    rng = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < number * len(topics):
        topic = list(topics)[len(found) % len(topics)]
        text = " ".join(rng.choice([*topics[topic], *_SHARED]) for _ in range(7))
        found.setdefault(text, topic)
    return [{"text": text, "label": topic} for text, topic in found.items()]


def make_base(folder: Path, context: int = 256) -> Artifact:
    """A random base with a chat template."""
    texts = [row["text"] for row in rows(40, 9)]
    tokenizer = train_tokenizer(texts, 320)
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        max_position_embeddings=context, eos_token_id=tokenizer.eos_token_id,
        architectures=["Qwen3ForCausalLM"], initializer_range=0.3,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(str(folder))
    return Artifact(folder, Manifest("Model", "base", "base", "", 1, {}, {}, {}, {}, {}))


def make_data(
    folder: Path,
    root: Artifact,
    splits: Mapping[str, list[dict[str, Any]]] | None = None,
    render: str = "sft",
    **config: Any,
) -> Artifact:
    """A Dataset as the stage `prepare` makes it."""
    given = splits or {"train": rows(20, 1), "validation": rows(6, 2), "test": rows(5, 3)}
    made, _ = prepare(folder, root, dict(given), render=render, max_length=128, **config)
    return Artifact(
        made.path,
        Manifest("Dataset", "data", "data", "", 1, {}, {}, {}, {}, scan_files(made.path)),
    )


def run(
    folder: Path, inputs: Mapping[str, Artifact], name: str, **more: Any
) -> tuple[Path, Mapping[str, Any]]:
    """The folder that stage `reference` filled, and its facts."""
    files = more.pop("files", {})
    config = {"name": name, "seed": 0, "shots": 4, "max_new_tokens": 8, "answer_after": None,
              "named": True}  # fmt: skip
    context = context_in(folder, files)
    return context.out, Reference().run(inputs, {**config, **more}, context)


def context_in(folder: Path, files: Mapping[str, Path] | None = None) -> StageContext:
    """What a running stage is given, its folders below ``folder``."""
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True)
    work.mkdir()
    return StageContext(out, work, {"batch_size": 8}, files or {}, lambda _event: None)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
