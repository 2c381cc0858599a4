"""A LoRA layer's forward pass as one product is PEFT's own, in values and in gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.modeling.fused_lora import fuse_lora

IDS = torch.tensor([[3, 5, 8, 13, 21, 2], [1, 1, 2, 3, 5, 8]])


def body(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, attention_bias=True,
    )  # fmt: skip
    settings = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", **changes}
    return get_peft_model(LlamaForCausalLM(config), LoraConfig(init_lora_weights=False, **settings))


def products(model: Any) -> list[str]:
    """Names of the layers that PEFT's own pass multiplies by, as they are called from now on."""
    called: list[str] = []
    for name, module in model.named_modules():
        if ".lora_B." in name:
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    return called


def gradients(model: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(input_ids=IDS, labels=IDS).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("autocast", [False, True])
def test_values_and_gradients_are_those_of_peft(autocast: bool) -> None:
    theirs = body()
    ours = copy.deepcopy(theirs)
    assert fuse_lora(ours) == 14
    seen = products(ours)
    near = {"rtol": 2e-2, "atol": 2e-2} if autocast else {"rtol": 1e-5, "atol": 1e-6}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        a, b = theirs(input_ids=IDS).logits, ours(input_ids=IDS).logits
        expected, found = gradients(theirs), gradients(ours)
    torch.testing.assert_close(b, a, **near)
    # PEFT multiplies by B in a layer of its own, which the fused pass never calls.
    assert seen == []
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, **near)
    # So that it can fail: the adapter does something.
    with theirs.disable_adapter():
        assert not torch.allclose(theirs(input_ids=IDS).logits, a.float(), atol=1e-2)


def test_dropout_is_drawn_as_peft_draws_it() -> None:
    theirs = body(lora_dropout=0.3).train()
    ours = copy.deepcopy(theirs)
    fuse_lora(ours)
    seen = products(ours)
    logits = []
    for model in (theirs, ours):
        torch.manual_seed(7)
        logits.append(model(input_ids=IDS).logits)
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-5, atol=1e-6)
    assert seen == []


@pytest.mark.parametrize("shape", [(16,), (5, 16), (2, 3, 16), (2, 1, 3, 16), (0, 16), (2, 0, 16)])
def test_inputs_of_every_shape_are_read(shape: tuple[int, ...]) -> None:
    theirs = body()
    ours = copy.deepcopy(theirs)
    fuse_lora(ours)
    seen = products(ours)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    layers = [m.base_model.model.model.layers[0].self_attn.q_proj for m in (theirs, ours)]
    torch.testing.assert_close(layers[1](x), layers[0](x), rtol=1e-5, atol=1e-6)
    if x.dim() == 3 and x.numel():
        turned = x.transpose(0, 1)
        torch.testing.assert_close(layers[1](turned), layers[0](turned), rtol=1e-5, atol=1e-6)
    assert seen == []


def test_weights_of_two_kinds_are_left_to_peft() -> None:
    theirs = body()
    for name, weight in theirs.named_parameters():
        if "lora_" not in name:
            weight.data = weight.data.bfloat16()
    ours = copy.deepcopy(theirs)
    fuse_lora(ours)
    seen = products(ours)
    assert torch.equal(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits)
    assert len(seen) == 14


def test_frozen_bf16_weights_under_float32_factors_are_fused_in_autocast() -> None:
    theirs = body()
    for name, weight in theirs.named_parameters():
        if "lora_" not in name:
            weight.data = weight.data.bfloat16()
    ours = copy.deepcopy(theirs)
    fuse_lora(ours)
    seen = products(ours)
    with torch.autocast("cpu", torch.bfloat16):
        a, b = theirs(input_ids=IDS).logits, ours(input_ids=IDS).logits
        expected, found = gradients(theirs), gradients(ours)
    assert seen == []
    assert b.dtype == a.dtype
    torch.testing.assert_close(b, a, rtol=2e-2, atol=2e-2)
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], gradient, rtol=3e-2, atol=3e-2)


def four_bit() -> Any:
    import bitsandbytes

    torch.manual_seed(0)
    made = bitsandbytes.nn.Linear4bit(
        64, 128, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4"
    )
    plain = nn.Linear(64, 128, bias=False)
    made.weight = bitsandbytes.nn.Params4bit(
        plain.weight.data, requires_grad=False, quant_type="nf4", module=made
    ).to("cpu")
    model = nn.Sequential(made)
    model.is_loaded_in_4bit = True  # type: ignore[assignment]
    return get_peft_model(
        model, LoraConfig(r=4, lora_alpha=12, target_modules=["0"], init_lora_weights=False)
    )


@pytest.mark.parametrize("autocast", [False, True])
def test_an_update_over_four_bits_is_that_of_peft(autocast: bool) -> None:
    theirs = four_bit()
    ours = copy.deepcopy(theirs)
    assert fuse_lora(ours) == 1
    seen = products(ours)
    kind = torch.bfloat16 if autocast else torch.float32
    made = []
    for model in (theirs, ours):
        x = torch.randn(3, 7, 64, generator=torch.Generator().manual_seed(5)).to(kind)
        x.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = model(x)
            slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(6))
            (y.float() * slope).sum().backward()
        grads = [p.grad for n, p in model.named_parameters() if "lora_" in n]
        made.append([y, x.grad, *grads])
    # In float32 PEFT's own pass is taken: products of two kinds, which it brings together.
    assert len(seen) == (0 if autocast else 1)
    for a, b in zip(*made, strict=True):
        assert a.dtype == b.dtype
        off = 2e-2 * float(a.detach().abs().max()) if autocast else 0.0
        torch.testing.assert_close(b, a, rtol=0.0, atol=off)


def test_float64_is_left_to_peft_where_autocast_leaves_it() -> None:
    theirs = body()
    for name, weight in theirs.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.double()
    ours = copy.deepcopy(theirs)
    fuse_lora(ours)
    seen = products(ours)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits)
    assert len(seen) == 14


def test_everything_else_that_peft_does_is_left_to_it() -> None:
    theirs = body()
    ours = copy.deepcopy(theirs)
    fuse_lora(ours)
    with theirs.disable_adapter(), ours.disable_adapter():
        assert torch.equal(theirs(input_ids=IDS).logits, ours(input_ids=IDS).logits)
    for model in (theirs, ours):
        torch.manual_seed(3)
        model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"], lora_alpha=4))
        nn.init.ones_(model.get_submodule(second(model)).weight)
        model.base_model.set_adapter(["default", "second"])
    torch.testing.assert_close(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits)
    for model in (theirs, ours):
        model.merge_adapter()
    assert torch.equal(theirs(input_ids=IDS).logits, ours(input_ids=IDS).logits)


def second(model: Any) -> str:
    return next(n for n, _ in model.named_modules() if n.endswith("q_proj.lora_B.second"))


def test_dora_keeps_its_own() -> None:
    theirs = body(use_dora=True)
    ours = copy.deepcopy(theirs)
    fuse_lora(ours)
    assert torch.equal(theirs(input_ids=IDS).logits, ours(input_ids=IDS).logits)
