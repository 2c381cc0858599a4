"""One LoRA update added to a layer's output by one product, in place of a product, a scaling of
all outputs and a sum. [N, in] -> [N, out] at rank r."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch


def fuse_lora(body: Any) -> int:
    """Gives every plain LoRA layer of a PEFT model the forward pass below; how many have it.

    Layers of other kinds (4-bit, DoRA, embeddings) and whatever else PEFT does (several adapters,
    merged or switched off) keep PEFT's own.
    """
    from peft.tuners.lora.layer import Linear

    fused = 0
    for module in body.modules():
        if type(module) is Linear and type(module.base_layer) is torch.nn.Linear:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]
            fused += 1
    return fused


def _forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """x W + (s x A) B: s scales r numbers of a token, not as many as the layer puts out."""
    name = None if args or kwargs else _only(self)
    # Weights of two kinds: PEFT says which gives way.
    if name is None or self.base_layer.weight.dtype != self.lora_A[name].weight.dtype:
        whole: torch.Tensor = type(self).forward(self, x, *args, **kwargs)
        return whole
    result: torch.Tensor = self.base_layer(x)
    low = self.lora_A[name](self.lora_dropout[name](x)) * self.scaling[name]
    # Nobody needs the output as it was before the update: no copy of it is made.
    b_RO = self.lora_B[name].weight.t().to(result.dtype)
    rows_NR = low.reshape(-1, low.shape[-1]).to(result.dtype)
    # A view, never a copy: the sum must reach the result.
    result.view(-1, result.shape[-1]).addmm_(rows_NR, b_RO)
    return result


def _only(layer: Any) -> str | None:
    """The one adapter that is active, where it is plain LoRA and stands beside the weight."""
    if layer.disable_adapters or layer.merged:
        return None
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(active) != 1 or active[0] in layer.lora_variant or layer.lora_bias[active[0]]:
        return None
    return str(active[0])
