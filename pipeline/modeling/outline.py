"""What a training is made of, from a base's configuration alone: no weight is ever allocated.

The base's own classes are built with tensors that have a shape and no memory (torch's
FakeTensorMode), adapters are put on by the code that trains, and one forward pass is followed:
which matrices there are, which of them a gradient passes, and what autograd keeps. So any
architecture that transformers knows can be priced.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.core.model_config import model_kind
from pipeline.core.objectives import OBJECTIVES, PEFT_METHODS
from pipeline.modeling.adapters import add_lora
from pipeline.modeling.followed_pass import (
    MASKED_KERNELS,
    Pass,
    affine,
    offer_unmasked,
)
from pipeline.modeling.loading import backbone, decoder_layers
from pipeline.modeling.outline_parts import AttentionShape, Matrix, Outline, Tensor

_LOUD = ("transformers", "bitsandbytes", "torch._subclasses.fake_tensor")
_EVERY: dict[str, Any] = {"target_modules": "all-linear", "bias": "none"}
# In the names of what PEFT puts beside the base's weights.
_ADDED = (".lora_", ".modules_to_save.")
# Layers without attention between pairs of tokens.
_SKIPPED = ("linear_attention", "mamba", "recurrent", "conv")


def outline(
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    length: int,
    kernel: str = "sdpa",
    bf16_weights: bool = False,
    labels: int = 0,
    parent_rank: int = 0,
) -> Outline:
    """Follows one training of a base with this config.json.

    Args:
        config: of the base; ``model_type`` names its architecture.
        settings: of `train`: objective, method, precision and what an adapter needs.
        length: tokens of a row.
        kernel: transformers' name of the attention kernel.
        bf16_weights: frozen weights lie in bfloat16, as on a GPU.
        labels: outputs of a head, for objectives that have one.
        parent_rank: of a frozen adapter that stays beside the weights; 0: there is none.

    Raises:
        ModelError: an architecture that transformers does not know.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with _quiet(), torch.random.fork_rng([]), torch.device("meta"):
        model, body, head = _built(config, settings, bf16_weights, labels, parent_rank)
    with _quiet(), FakeTensorMode(allow_non_fake_inputs=True):
        # Autocast and the CPU's kernels know no meta device, and a fake tensor has one.
        _onto_cpu(body)
        return _followed(model, body, head, settings, length, kernel)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # What transformers, PEFT and bitsandbytes warn of is said when the training itself is built.
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _built(
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    bf16_weights: bool,
    labels: int,
    parent_rank: int,
) -> tuple[Any, Any, nn.Module | None]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    tree = dict(config)
    kind = tree.pop("model_type", None)
    architecture = (tree.get("architectures") or [""])[0]
    encoder = model_kind(config) == "encoder"
    frozen = bf16_weights and settings["method"] in PEFT_METHODS
    try:
        shape = AutoConfig.for_model(kind, **tree)
        auto = AutoModelForMaskedLM if encoder else AutoModelForCausalLM
        model: Any = auto.from_config(
            shape,
            dtype=torch.bfloat16 if frozen else torch.float32,
            attn_implementation="eager",
        )
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelError(
            f"base: {architecture or kind}: its shape cannot be built "
            f"({str(error).splitlines()[0][:120]})"
        ) from None
    body = model
    if settings["method"] in PEFT_METHODS:
        if parent_rank:
            from peft import LoraConfig, get_peft_model

            body = get_peft_model(model, LoraConfig(r=parent_rank, **_EVERY), "parent")
        body = add_lora(body, settings, seed=0, encoder=encoder)
        # The loop trains adapters in float32, whatever the base lies in.
        for parameter in body.parameters():
            if parameter.requires_grad and parameter.dtype != torch.float32:
                parameter.data = parameter.data.float()
    head = None
    if OBJECTIVES[settings["objective"]].head:
        head = nn.Linear(model.config.get_text_config().hidden_size, max(labels, 1), bias=False)
    if head is not None and settings["objective"] != "hybrid":
        used = {id(parameter) for parameter in backbone(model).parameters()}
        for parameter in model.parameters():
            if id(parameter) not in used:
                parameter.requires_grad_(False)
    body.train()
    return model, body, head


def _onto_cpu(body: nn.Module) -> None:
    made: dict[int, Any] = {}
    for module in body.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fake = torch.empty(parameter.shape, dtype=parameter.dtype)
                new = nn.Parameter(fake, parameter.requires_grad)
                # Tied weights stay one.
                module._parameters[name] = made.setdefault(id(parameter), new)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _followed(
    model: Any,
    body: Any,
    head: nn.Module | None,
    settings: Mapping[str, Any],
    length: int,
    kernel: str,
) -> Outline:
    text = model.config.get_text_config()
    _use_kernel(model, kernel)
    layers = decoder_layers(body)
    first = Pass(body, layers)
    kept, reason = None, ""
    bf16 = settings["precision"] == "bf16"
    try:
        first.run(1, length, kernel, bf16=bf16)
        second = Pass(body, layers)
        second.run(2, length, kernel, bf16=bf16)
        kept = affine(first, second)
    except Exception as error:
        # Data decides the way through some models (experts), and a shape has none.
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
    matrices = _matrices(model, body, head, settings, first if kept else None, layers)
    return Outline(
        matrices=matrices,
        attentions=_attentions(text, matrices, len(layers), _is_causal(model)),
        tensors=tuple(_tensors(body, head)),
        kept=kept,
        length=length,
        vocabulary=model.get_input_embeddings().weight.shape[0],
        hidden=int(text.hidden_size),
        layers=len(layers),
        inner=_inner_size(text),
        reason=reason,
    )


def _inner_size(text: Any) -> int:
    """What one token sees between the two halves of a layer's MLP: of experts those it meets."""
    of_an_expert = getattr(text, "moe_intermediate_size", None)
    if of_an_expert:
        return int(of_an_expert * (getattr(text, "num_experts_per_tok", None) or 1))
    return int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size)


def _use_kernel(model: Any, kernel: str) -> None:
    # A model without attention has no kernel to choose.
    with contextlib.suppress(ValueError):
        model.set_attn_implementation(kernel if kernel in MASKED_KERNELS else offer_unmasked())


def _tensors(body: Any, head: nn.Module | None) -> Iterator[Tensor]:
    named = [(name, p, any(part in name for part in _ADDED)) for name, p in body.named_parameters()]
    if head is not None:
        named += [(f"score.{name}", p, True) for name, p in head.named_parameters()]
    for name, parameter, added in named:
        yield Tensor(name, parameter.numel(), parameter.itemsize, parameter.requires_grad, added)


def _matrices(
    model: Any,
    body: Any,
    head: nn.Module | None,
    settings: Mapping[str, Any],
    followed: Pass | None,
    layers: list[nn.Module],
) -> tuple[Matrix, ...]:
    stem = {id(m) for m in backbone(model).modules()}
    place = {id(m): i for i, layer in enumerate(layers) for m in layer.modules()}
    experts = _active_share(model.config.get_text_config())
    output = model.get_output_embeddings()
    predicts = head is None or settings["objective"] == "hybrid"
    found: list[Matrix] = []
    above = False
    for name, module in body.named_modules():
        if isinstance(module, nn.Embedding):
            above |= any(p.requires_grad for p in module.parameters())
            continue
        inside = id(module) in stem
        idle = inside and followed is not None and id(module) not in followed.flows
        # What stands beside a module that is trained whole is never called.
        if idle or ".original_module" in name or not (inside or predicts):
            continue
        for own, weight in module.named_parameters(recurse=False):
            if weight.ndim < 2:
                continue
            flows = above
            if followed is not None:
                flows = followed.flows.get(id(module), False) if inside else followed.states_flow
            found.append(
                Matrix(
                    f"{name}.{own}",
                    weight.numel(),
                    weight.requires_grad,
                    flows,
                    "body" if inside else "vocabulary",
                    place.get(id(module)),
                    experts if weight.ndim == 3 or ".experts." in name + "." else 1.0,
                    isinstance(module, nn.Linear) and ".lora_" not in name and module is not output,
                )
            )
            above |= weight.requires_grad
    if head is not None:
        size = sum(p.numel() for p in head.parameters())
        found.append(Matrix("score.weight", size, True, above, "head"))
    return tuple(found)


def _is_causal(model: Any) -> bool:
    return model_kind({"architectures": [type(model).__name__]}) == "causal"


def _active_share(text: Any) -> float:
    chosen = getattr(text, "num_experts_per_tok", None)
    every = next(
        (getattr(text, n) for n in ("num_experts", "num_local_experts", "n_routed_experts")
         if getattr(text, n, None)), None)  # fmt: skip
    return chosen / every if chosen and every else 1.0


def _attentions(
    text: Any, matrices: tuple[Matrix, ...], layers: int, causal: bool
) -> tuple[AttentionShape, ...]:
    heads = int(getattr(text, "num_attention_heads", 0) or 0)
    if not heads:
        return ()
    dim = int(getattr(text, "head_dim", None) or math.ceil(text.hidden_size / heads))
    query = int(getattr(text, "qk_nope_head_dim", 0) or 0) + int(
        getattr(text, "qk_rope_head_dim", 0) or 0
    )
    value = int(getattr(text, "v_head_dim", None) or dim)
    kinds = list(getattr(text, "layer_types", None) or ["full_attention"] * layers)
    flowing = {m.layer for m in matrices if m.flows or m.trainable}
    return tuple(
        AttentionShape(
            heads,
            query or dim,
            value,
            causal,
            getattr(text, "sliding_window", None) if "sliding" in kind else None,
            index in flowing,
        )
        for index, kind in enumerate(kinds[:layers])
        if not any(word in kind for word in _SKIPPED)
    )
