"""One forward pass over shapes, followed: what autograd keeps of it, and where gradients go.

Source for what ought to be found: Korthikanti et al. 2022, Reducing Activation Recomputation in
Large Transformer Models, equations 1 to 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.modeling.loading import backbone, plain_model
from pipeline.modeling.outline_parts import Kept

# Kernels that hand scores or a mask of T x T through memory; the others make neither.
MASKED_KERNELS = ("eager", "sdpa")
_UNMASKED = "gradus_outline"


def offer_unmasked() -> str:
    """A kernel that keeps what the flash, flex and segment kernels keep; its name.

    transformers makes no mask for a name that its masks do not know.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(_UNMASKED, _attend)
    return _UNMASKED


def _attend(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_more: Any,
) -> tuple[torch.Tensor, None]:
    found = functional.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=True, scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return found.transpose(1, 2).contiguous(), None


class Pass:
    """One forward pass over shapes: what is kept, and which inputs want a gradient."""

    def __init__(self, body: Any, layers: list[nn.Module]) -> None:
        self._body, self._layers = body, layers
        self._layer: int | None = None
        self._seen: dict[int, torch.Tensor] = {}
        self.flows: dict[int, bool] = {}
        self.kept: list[tuple[int | None, float]] = []
        self.between = 0.0
        self.states_flow = False

    def run(self, rows: int, length: int, kernel: str, *, bf16: bool) -> None:
        """Runs the body over ``rows`` rows of ``length`` tokens."""
        model = plain_model(self._body)
        own = [*self._body.parameters(), *self._body.buffers()]
        self._seen = {t.untyped_storage()._cdata: t for t in own}
        handles = [m.register_forward_pre_hook(self._entered) for m in self._body.modules()]
        for index, layer in enumerate(self._layers):
            handles.append(layer.register_forward_pre_hook(self._into(index), with_kwargs=True))
            handles.append(layer.register_forward_hook(self._out))
        inputs: dict[str, Any] = {"input_ids": torch.zeros(rows, length, dtype=torch.long)}
        if kernel in MASKED_KERNELS:
            inputs["attention_mask"] = torch.ones(rows, 1, length, length, dtype=torch.bool)
        if getattr(model, "can_generate", bool)():
            inputs["use_cache"] = False
        autocast: Any = torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda t: t), autocast:
                states = backbone(model)(**inputs).last_hidden_state
            self.states_flow = bool(states.requires_grad)
        finally:
            for handle in handles:
                handle.remove()

    def _entered(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        flows = any(isinstance(t, torch.Tensor) and t.requires_grad for t in inputs)
        self.flows[id(module)] = self.flows.get(id(module), False) or flows

    def _into(self, index: int) -> Callable[..., None]:
        def enter(_module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
            self._layer = index
            states = inputs[0] if inputs else named["hidden_states"]
            self.between += states.numel() * states.itemsize

        return enter

    def _out(self, *_call: Any) -> None:
        self._layer = None

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            # Held, so that no later storage gets the same name.
            self._seen[storage._cdata] = tensor
            self.kept.append((self._layer, float(storage.nbytes())))
        return tensor


def affine(first: Pass, second: Pass) -> Kept:
    """What one row and two rows keep gives what each row does, and what all share."""
    rows: dict[int | None, float] = {}
    fixed: dict[int | None, float] = {}
    widest = 0.0
    for (layer, one), (_, two) in zip(first.kept, second.kept, strict=True):
        rows[layer] = rows.get(layer, 0.0) + two - one
        fixed[layer] = fixed.get(layer, 0.0) + 2 * one - two
        widest = max(widest, two - one)
    inside = [layer for layer in rows if layer is not None]
    most = max(inside, key=lambda layer: rows[layer], default=None)
    return Kept(
        row=sum(rows.values()),
        fixed=sum(fixed.values()),
        layer_row=rows.get(most, 0.0),
        layer_fixed=fixed.get(most, 0.0),
        between_row=first.between,
        outside_row=rows.get(None, 0.0),
        outside_fixed=fixed.get(None, 0.0),
        widest_row=widest,
    )
