"""A tiny model in its folder, and suites that are prepared for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from choosing_case import SYSTEM, rows_of
from transformers import Qwen3Config, Qwen3ForCausalLM

from pipeline.core.artifact import Artifact
from pipeline.modeling.loading import load_tokenizer
from tests.data.preparing import prepare, tiny_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A tiny random model with its tokenizer, in a folder."""
    found = tiny_base(tmp_path_factory.mktemp("choosing") / "root")
    tokenizer = load_tokenizer(found.path)
    torch.manual_seed(5)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16, initializer_range=0.3,
            max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    model.save_pretrained(str(found.path))
    return found


@pytest.fixture(scope="session")
def suites(base: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows, to be answered and to be told by their label; train packed and not."""
    folder = tmp_path_factory.mktemp("suites")
    splits = {"train": rows_of("train", 40), "test": rows_of("test", 9)}
    made = {
        "sft": {"render": "sft", "system": SYSTEM},
        "channel": {"render": "channel"},
        "packed": {"render": "channel", "packing": True},
    }
    return {
        name: prepare(folder / name, base, splits, max_length=200, **config)[0].path
        for name, config in made.items()
    }
