"""The setting that a plan hints at: it makes the training fit, and nothing refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.core.launch import LaunchSettings
from pipeline.core.objectives import OBJECTIVES
from pipeline.core.schema import Train
from pipeline.data.examples import RenderPlan
from pipeline.devices import Device
from pipeline.price_estimate import estimate
from pipeline.price_rows import Rows
from pipeline.price_terms import Case, Terms
from pipeline.remedies import _half, _sharded, first_that_fits
from pipeline.train_plan import train_config, train_options

SHAPE = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 8000,
    "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 3072,
}  # fmt: skip
ENCODER = {
    "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 500,
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
}  # fmt: skip


def case_of(objective: str = "sft", shape: Mapping[str, Any] = SHAPE, **changes: Any) -> Case:
    settings = {"objective": objective, "global_batch_size": 16, "max_length": 512, **changes}
    train = Train.model_validate(settings)
    lengths = np.full(64, 400)
    return Case(
        shape, train_config(train, objective), train_options(train), LaunchSettings("single", 1),
        Rows(lengths, lengths, targets=None, labels=4),
    )  # fmt: skip


def terms_of(memory_bytes: float, *, gpu: bool = True) -> Terms:
    return Terms(Device("a device", memory_bytes, 1e12, gpu, "here"))


def needed(case: Case, *, gpu: bool = True) -> int:
    return int(estimate(case, terms_of(1e12, gpu=gpu))["memory_bytes"]["total"])


def changed(case: Case, **options: Any) -> Case:
    return replace(case, options={**case.options, **options})


def test_a_row_that_ends_in_shards_leaves_out_what_shards_refuse() -> None:
    case = case_of(method="full", precision="fp32", over_length="drop")
    shards = replace(case, launch=LaunchSettings("fsdp", 16))
    both = changed(shards, micro_batch_size=1, gradient_checkpointing=True)
    # Between what shards alone need, and shards with checkpointing.
    least, most = needed(both), needed(shards)
    assert least < 0.95 * most
    found = first_that_fits(case, terms_of((least + most) / 2))
    assert found is not None
    words = " ".join(found["settings"])
    assert "train.gradient_checkpointing=true" in words
    assert "accelerate/fsdp.yaml" in words
    assert "optim" not in words
    assert "qlora" not in words
    assert found["total_bytes"] <= (least + most) / 2


@pytest.mark.parametrize("gpu", [True, False])
def test_paged_states_are_offered_to_a_gpu_and_not_to_a_cpu(gpu: bool) -> None:
    # One row an update cannot be shared: shards are no way out.
    case = case_of(method="full", precision="fp32", global_batch_size=1)
    last = changed(case, micro_batch_size=1, gradient_checkpointing=True)
    last = replace(last, config={**last.config, "optim": "adamw_8bit"})
    enough = needed(last, gpu=gpu) - 1e6
    found = first_that_fits(case, terms_of(enough, gpu=gpu))
    assert found is not None
    words = " ".join(found["settings"])
    assert ("paged" in words) == gpu
    assert gpu or "train.optim=adamw_8bit" in words


def test_shards_are_offered_over_gpus_and_never_over_fewer_than_there_are() -> None:
    case = replace(case_of(), launch=LaunchSettings("ddp", 4))
    counts = [c.launch.processes for _, c in _sharded(case, terms_of(1e9))]
    assert counts == [4, 8, 16]
    case = replace(case, launch=LaunchSettings("fsdp", 4))
    assert [c.launch.processes for _, c in _sharded(case, terms_of(1e9))] == [8, 16]
    assert list(_sharded(case, terms_of(1e9, gpu=False))) == []


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_half_the_length_is_half_of_what_is_used_and_prepare_takes_it(objective: str) -> None:
    shape = ENCODER if objective == "mlm" else {**SHAPE, "hidden_size": 64}
    method = "full" if objective == "pretrain" else "lora"
    case = case_of(objective, shape, method=method, micro_batch_size=1, gradient_checkpointing=True)
    half = _only_half(case)
    words = dict(word.removeprefix("train.").split("=") for word in half)
    # The longest row has 400 tokens of the 512 that are allowed.
    assert words["max_length"] == "200"
    render = OBJECTIVES[objective].render
    policy = words.get("over_length", "error")
    RenderPlan(render, "assistant", 200, policy, context=None)
    # What is left whole is text: it is cut into windows, and nothing stops at it.
    assert (policy == "error") == (render == "text")


def test_a_recipe_that_says_what_becomes_of_longer_rows_is_left_so() -> None:
    case = replace(case_of(micro_batch_size=1), over_length="truncate-left")
    assert _only_half(case) == ("train.max_length=200",)


def _only_half(case: Case) -> tuple[str, ...]:
    ((words, changed),) = _half(case, terms_of(1e9))
    assert changed.length == 200
    return words
