"""A model of random weights: the plan knows its shape before it is made."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.core.model_config import scratch_config
from pipeline.core.stage import StageContext
from pipeline.modeling.outline import outline
from pipeline.stages.scratch import Scratch


def test_the_shape_of_scratch_is_that_of_the_stage(tmp_path: Path) -> None:
    shape = {
        "vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 64, "max_position_embeddings": 128,
    }  # fmt: skip
    settings = {"objective": "pretrain", "method": "full", "precision": "fp32"}
    found = outline(scratch_config(shape), settings, length=16)
    head = 32
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 64 + 2 * 64 + 2 * head
    assert found.parameters == 320 * 64 + 2 * layer + 64
    words = [{"text": " ".join(f"word{n} of {n * n}" for n in range(100))}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in words))
    source = {"format": "text", "columns": {}, "path": "rows.jsonl", "fraction": None}
    config = {"shape": {**shape, "seed": 1}, "sources": [source]}
    files = {"train0": tmp_path / "rows.jsonl"}
    out = tmp_path / "out"
    out.mkdir()
    facts = Scratch().run({}, config, StageContext(out, out, {}, files, print))
    assert facts["vocab_size"] == 320
    assert facts["parameters"] == found.parameters
    made = json.loads((out / "config.json").read_text())
    assert scratch_config(shape).items() <= made.items()
