"""A compiled layer keeps what its budget says, whatever was compiled before it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import Qwen3Config, Qwen3ForCausalLM

from pipeline.core.schema_train import Train
from pipeline.modeling.memory import _compiled_share
from pipeline.train_plan import train_config, train_options
from pipeline.training.compiled import compile_layers

ROOT = Path(__file__).resolve().parents[2]


def saved_bytes(budget: float) -> int:
    """Of what one pass keeps for its backward pass, weights apart."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64, hidden_size=64, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    )  # fmt: skip
    make: Any = Qwen3ForCausalLM
    model = make(config)
    # Quick to compile; the partition is the same.
    compile_layers(model, budget)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        states = model.model(input_ids=torch.arange(48)[None], use_cache=False).last_hidden_state
    states.sum().backward()
    return sum(seen.values())


def test_a_second_training_in_a_process_has_a_budget_of_its_own() -> None:
    # In a process of its own: the compiler warns, and warnings are errors here.
    code = (
        "from tests.training.test_compiled import saved_bytes as s; print(s(1.0), s(0.2), s(1.0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    whole, less, again = map(int, done.stdout.split())
    assert less < 0.8 * whole
    assert again == whole


def test_a_budget_without_compiled_layers_is_refused() -> None:
    with pytest.raises(ValidationError, match="activation_memory_budget needs compile: true"):
        Train(objective=("sft",), activation_memory_budget=0.5)


def test_a_budget_changes_no_key() -> None:
    one, other = (
        Train(objective=("sft",), compile=True, activation_memory_budget=b) for b in (1.0, 0.3)
    )
    assert train_config(one, "sft") == train_config(other, "sft")
    assert train_options(other)["activation_memory_budget"] == 0.3


def test_the_price_counts_a_share_that_is_no_smaller_than_what_was_seen() -> None:
    # Of a Qwen3-8B shape's two layers under LoRA in bf16, saved bytes by what is kept uncompiled.
    for budget, seen in ((0.1, 0.28), (0.3, 0.33), (0.5, 0.38), (0.7, 0.39), (1.0, 0.60)):
        assert seen <= _compiled_share(budget) <= 1.3 * seen
