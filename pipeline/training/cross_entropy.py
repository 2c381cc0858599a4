"""Cross-entropy of a linear layer's logits without ever holding all of them.

Source: Hsu et al. 2024, Liger Kernel, section 3.2 (FusedLinearCrossEntropy): the states go
through the vocabulary in chunks, and each chunk's gradients are made where its logits are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pipeline.modeling.at_once import CHUNK_ELEMENTS


def chunk_rows(vocabulary: int, device: str = "cpu") -> int:
    """How many rows of logits are held at once: of the vocabulary alone, whatever the batch."""
    return max(1, CHUNK_ELEMENTS["cpu" if device == "cpu" else "cuda"] // vocabulary)


def is_plain_linear(layer: Any) -> bool:
    """Whether a layer is its weight and bias and nothing else: no adapter, no quantisation.

    A weight that DeepSpeed ZeRO-3 holds in pieces is whole inside its layer's own call only.
    """
    return type(layer) is nn.Linear and not hasattr(layer.weight, "ds_id")


def linear_cross_entropy(
    states_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    targets_N: torch.Tensor,
    weights_N: torch.Tensor | None = None,
    chunk: int | None = None,
) -> torch.Tensor:
    """Summed cross-entropy, in nats, of ``states @ weight.T + bias``.

    N targets, D features, V vocabulary. Products are in autocast's type where it is on, else in
    the weight's; the softmax is in float32 at least. Gradients are made in the forward pass, and
    only those that are asked for; without gradients, the loss alone.

    Args:
        weights_N: what each target counts; None: all the same.
        chunk: rows of logits held at once; default ``chunk_rows``.
    """
    rows = chunk or chunk_rows(weight_VD.shape[0], states_ND.device.type)
    inputs = (states_ND, weight_VD, bias_V)
    wanted = tuple(
        torch.is_grad_enabled() and tensor is not None and tensor.requires_grad for tensor in inputs
    )
    loss: torch.Tensor = _LinearCrossEntropy.apply(*inputs, targets_N, weights_N, rows, wanted)
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
        weights_N: torch.Tensor | None,
        chunk: int,
        wanted: tuple[bool, bool, bool],
    ) -> torch.Tensor:
        device = states_ND.device.type
        kind = weight_VD.dtype
        if torch.is_autocast_enabled(device) and kind != torch.float64:
            kind = torch.get_autocast_dtype(device)
        exact = torch.promote_types(kind, torch.float32)
        weight, bias = weight_VD.to(kind), None if bias_V is None else bias_V.to(kind)
        gradients = [
            torch.zeros_like(tensor, dtype=exact) if asked and tensor is not None else None
            for tensor, asked in zip((states_ND, weight_VD, bias_V), wanted, strict=True)
        ]
        loss = torch.zeros((), dtype=exact, device=states_ND.device)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(states_ND), chunk):
                part = slice(start, start + chunk)
                states = states_ND[part].to(kind)
                logits = functional.linear(states, weight, bias).to(exact)
                counts = None if weights_N is None else weights_N[part].to(exact)
                loss += _loss_and_slope(logits, targets_N[part], counts, slope=any(wanted))
                _add_gradients(gradients, part, logits, states, weight)
        ctx.gradients = tuple(
            made if made is None or tensor is None else made.to(tensor.dtype)
            for made, tensor in zip(gradients, (states_ND, weight_VD, bias_V), strict=True)
        )
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # Scaled in place: a second copy of a vocabulary's gradient could be gigabytes.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("linear_cross_entropy: its gradients were used already")
        for made in gradients:
            if made is not None:
                made.mul_(slope)
        return (*gradients, None, None, None, None)


def _loss_and_slope(
    logits_NV: torch.Tensor,
    targets_N: torch.Tensor,
    weights_N: torch.Tensor | None,
    *,
    slope: bool,
) -> torch.Tensor:
    """The chunk's loss; where asked, the logits become the loss's derivative by them."""
    total_N = logits_NV.logsumexp(dim=1)
    losses_N = total_N - logits_NV.gather(1, targets_N[:, None])[:, 0]
    if slope:
        logits_NV.sub_(total_N[:, None]).exp_()
        logits_NV[torch.arange(len(targets_N), device=targets_N.device), targets_N] -= 1.0
        if weights_N is not None:
            logits_NV.mul_(weights_N[:, None])
    return losses_N.sum() if weights_N is None else (losses_N * weights_N).sum()


def _add_gradients(
    gradients: list[torch.Tensor | None],
    part: slice,
    slope_NV: torch.Tensor,
    states_ND: torch.Tensor,
    weight_VD: torch.Tensor,
) -> None:
    by_states, by_weight, by_bias = gradients
    rounded = slope_NV.to(weight_VD.dtype)
    if by_states is not None:
        by_states[part] = rounded @ weight_VD
    if by_weight is not None:
        if by_weight.dtype == rounded.dtype:
            by_weight.addmm_(rounded.T, states_ND)
        else:
            by_weight += rounded.T @ states_ND
    if by_bias is not None:
        by_bias += slope_NV.sum(dim=0)
