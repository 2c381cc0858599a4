"""A random base that writes, and prepared suites of open answers and of instructions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from pipeline.core.artifact import Artifact, Manifest, scan_files
from pipeline.core.stage import StageContext
from pipeline.stages.scratch import train_tokenizer
from tests.data.preparing import TEXTS, prepare

CONFIG: dict[str, Any] = {
    "name": "demo", "level": "L2", "role": "model", "suites": ["test"], "samples": 100,
    "temperature": 0.7, "seed": 0, "max_new_tokens": 12, "answer_after": None, "endpoint": None,
    "endpoint_key_env": None, "judge": None,
}  # fmt: skip
QUESTIONS = [
    {"question": f"Where does {text.split()[1]} {number} sail?", "answer": text}
    for number, text in enumerate(TEXTS * 2)
]
INSTRUCTIONS = [
    {
        "prompt": f"Name a boat in under {number} words, without commas.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, {"num_words": number, "relation": "less than"}],
    }
    for number in range(2, 14)
]


def make_base(folder: Path) -> Artifact:
    """Random weights over a tiny vocabulary."""
    tokenizer = train_tokenizer(TEXTS, 300)
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=256,
        initializer_range=0.3, architectures=["Qwen3ForCausalLM"],
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return Artifact(folder, Manifest("Model", "base", "base", "", 1, {}, {}, {}, {}, {}))


def make_suite(
    folder: Path, base: Artifact, form: str, rows: Sequence[Mapping[str, Any]]
) -> Artifact:
    """A Dataset as `prepare` makes it of such rows."""
    made, _ = prepare(
        folder, base, {"test": [dict(row) for row in rows]}, source={"format": form}, render="sft"
    )
    files = scan_files(made.path)
    return Artifact(made.path, Manifest("Dataset", form, form, "", 1, {}, {}, {}, {}, files))


def context(folder: Path, **options: Any) -> StageContext:
    """Where a stage writes."""
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    given = {"batch_size": 8, **options}
    return StageContext(folder / "out", folder / "work", given, {}, lambda _event: None)


def records(folder: Path) -> list[dict[str, Any]]:
    """What the stage tells."""
    found: list[dict[str, Any]] = json.loads((folder / "out" / "generated.json").read_text())
    return found
