"""One LoRA update added to a layer's output by one product, in place of a product, a scaling of
all outputs and a sum. [N, in] -> [N, out] at rank r."""

from __future__ import annotations

import sys
from types import MethodType
from typing import Any

import torch


def fuse_lora(body: Any) -> int:
    """Gives every plain LoRA layer of a PEFT model the forward pass below; how many have it.

    Over 4-bit weights it is taken under autocast alone. Layers of other kinds (DoRA, embeddings)
    and whatever else PEFT does (several adapters, merged or switched off) keep PEFT's own.
    """
    from peft.tuners.lora.layer import Linear

    # Only where it is loaded can a layer be of that kind: bitsandbytes is slow to import.
    four_bit = getattr(sys.modules.get("peft.tuners.lora.bnb"), "Linear4bit", None)
    fused = 0
    for module in body.modules():
        plain = type(module) is Linear and type(module.base_layer) is torch.nn.Linear
        if plain or (four_bit is not None and type(module) is four_bit):
            module.forward = MethodType(_forward, module)
            fused += 1
    return fused


def _forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """x W + (s x A) B: s scales r numbers of a token, not as many as the layer puts out."""
    name = None if args or kwargs else _only(self)
    if name is None or not _one_kind(self, name, x):
        whole: torch.Tensor = type(self).forward(self, x, *args, **kwargs)
        return whole
    result: torch.Tensor = self.base_layer(x)
    low = self.lora_A[name](self.lora_dropout[name](x)) * self.scaling[name]
    b_RO = self.lora_B[name].weight.t().to(result.dtype)
    rows_NR = low.reshape(-1, low.shape[-1]).to(result.dtype)
    if type(self.base_layer) is torch.nn.Linear:
        # Nobody needs the output as it was before the update: no copy of it is made. A view,
        # never a copy: the sum must reach the result.
        result.view(-1, result.shape[-1]).addmm_(rows_NR, b_RO)
        return result
    # A 4-bit layer's output comes from a function of its own, which may forbid a change in place.
    return torch.addmm(result.view(-1, result.shape[-1]), rows_NR, b_RO).view(result.shape)


def _one_kind(layer: Any, name: str, x: torch.Tensor) -> bool:
    """Whether all products are in one type; where they are not, PEFT says which gives way."""
    plain = type(layer.base_layer) is torch.nn.Linear
    kinds = {x.dtype, layer.lora_A[name].weight.dtype}
    if plain:
        kinds.add(layer.base_layer.weight.dtype)
    if torch.is_autocast_enabled(x.device.type) and torch.float64 not in kinds:
        # Autocast brings both weights to its type; a 4-bit layer hands back the type it was given.
        return plain or x.dtype == torch.get_autocast_dtype(x.device.type)
    return plain and bool(layer.base_layer.weight.dtype == layer.lora_A[name].weight.dtype)


def _only(layer: Any) -> str | None:
    """The one adapter that is active, where it is plain LoRA and stands beside the weight."""
    if layer.disable_adapters or layer.merged:
        return None
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(active) != 1 or active[0] in layer.lora_variant or layer.lora_bias[active[0]]:
        return None
    return str(active[0])
