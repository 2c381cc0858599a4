"""A tiny model and its rows, once for all trainings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from pipeline.data.arrow import write_split
from pipeline.stages.scratch import train_tokenizer
from tests.training.forked import Forge
from tests.training.matrix import made
from tests.training.training_case import TEXTS


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder, an encoder and a Dataset for each render."""
    return made(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    """Starts trainings that can be killed."""
    found = Forge()
    yield found
    found.close()


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    tokenizer = train_tokenizer(TEXTS, 300)
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16, intermediate_size=48,
            tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def data(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(str(root))
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for index, text in enumerate(TEXTS):
        ids = tokenizer(text)["input_ids"]
        rows.append(
            {"example_id": str(index), "text": text, "label": text.split()[1],
             "input_ids": ids, "supervised": [int(i > 2) for i in range(len(ids))]}
        )  # fmt: skip
    write_split(folder / "train.arrow", rows)
    write_split(folder / "validation.arrow", rows[:4])
    (folder / "labels.json").write_text(json.dumps(["blue", "grey", "red"]))
    return folder
