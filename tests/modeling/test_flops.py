"""FLOPs counted from an outline, against torch's own counter on the real model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from pipeline.modeling.adapters import lora_config
from pipeline.modeling.flops import training_flops
from pipeline.modeling.loading import backbone, plain_model
from pipeline.modeling.outline import outline

SETTINGS: dict[str, Any] = {
    "objective": "sft", "method": "full", "precision": "fp32", "lora_r": 4, "lora_alpha": None,
    "lora_dropout": 0.0, "target_modules": "all-linear", "use_rslora": False, "use_dora": False,
    "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": (),
}  # fmt: skip
QWEN3: dict[str, Any] = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 300,
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 160,
    "tie_word_embeddings": False,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 300, "n_embd": 64,
    "n_layer": 3, "n_head": 4, "n_positions": 64,
}  # fmt: skip
BERT: dict[str, Any] = {
    "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 300,
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128,
}  # fmt: skip
LENGTH, ROWS, TARGETS = 48, 2, 20


def counted(config: dict[str, Any], settings: dict[str, Any]) -> int:
    """What torch counts of forward and backward: the body, then the vocabulary for targets."""
    tree = dict(config)
    shape = AutoConfig.for_model(tree.pop("model_type"), **tree)
    encoder = "MaskedLM" in config["architectures"][0]
    auto = AutoModelForMaskedLM if encoder else AutoModelForCausalLM
    torch.manual_seed(0)
    model = auto.from_config(shape, attn_implementation="eager")
    body = model
    if settings["method"] == "lora":
        body = get_peft_model(model, lora_config(settings, encoder=encoder))
    model = plain_model(body)
    ids = torch.randint(300, (ROWS, LENGTH))
    with FlopCounterMode(display=False) as counter:
        states = backbone(model)(input_ids=ids).last_hidden_state
        head = model.cls if encoder else model.get_output_embeddings()
        head(states.reshape(-1, states.shape[-1])[:TARGETS]).sum().backward()
    return counter.get_total_flops()


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("config", [QWEN3, GPT2, BERT], ids=["qwen3", "gpt2", "bert"])
def test_flops_are_those_that_torch_counts(config: dict[str, Any], method: str) -> None:
    settings = {**SETTINGS, "method": method, "objective": "mlm" if config is BERT else "sft"}
    found = outline(config, settings, length=LENGTH, kernel="eager")
    ours = training_flops(found, [LENGTH] * ROWS, TARGETS, every_pair=True)
    assert ours.needed == pytest.approx(counted(config, settings), rel=1e-3)


def test_a_frozen_weight_has_no_weight_gradient() -> None:
    full = training_flops(outline(QWEN3, SETTINGS, length=32), [32], 8)
    part = outline(QWEN3, {**SETTINGS, "method": "lora"}, length=32)
    lora = training_flops(part, [32], 8)
    trained = sum(2 * m.size * 32 for m in part.matrices if m.trainable)
    assert lora.weight_gradients == trained
    assert full.weight_gradients == full.forward


def test_rows_of_a_block_do_not_pay_for_each_other() -> None:
    found = outline(QWEN3, SETTINGS, length=64)
    one, many = training_flops(found, [64], 9), training_flops(found, [16] * 4, 9)
    assert many.attention == pytest.approx(one.attention * (4 * 16 * 17) / (64 * 65))
    assert many.forward == one.forward


def test_a_window_bounds_the_pairs() -> None:
    mistral = {**QWEN3, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
               "use_sliding_window": True, "sliding_window": 16,
               "max_window_layers": 0}  # fmt: skip
    near = training_flops(outline(mistral, SETTINGS, length=64), [64], 1)
    pairs = sum(min(i + 1, 16) for i in range(64))
    assert near.attention == pytest.approx(3 * 3 * 2 * pairs * 4 * 32)


def test_an_encoder_needs_every_pair_and_a_decoder_those_behind() -> None:
    both = training_flops(outline(BERT, {**SETTINGS, "objective": "mlm"}, length=32), [32], 1)
    behind = training_flops(outline(GPT2, SETTINGS, length=32), [32], 1)
    assert behind.attention == pytest.approx(both.attention * 33 / 64)
