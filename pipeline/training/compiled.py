"""Layers compiled one by one, all of a kind by the same code."""

from __future__ import annotations

from typing import Any

import torch
from torch._functorch import config as functorch

from pipeline.modeling.loading import decoder_layers


def compile_layers(body: Any, budget: float) -> None:
    """Compiles every layer at its first pass.

    Args:
        body: the model, wrapped by PEFT or not.
        budget: how much a layer may keep for its backward pass, of all that it would
            (``activation_memory_budget`` of torch's partitioner).
    """
    if functorch.activation_memory_budget != budget:
        # Code is found again by the layer's class, and the budget is no part of its guards: a
        # second training in one process would silently go on with the first one's.
        torch._dynamo.reset()
    # Read when a layer is compiled: it has to stay.
    functorch.activation_memory_budget = budget
    for layer in decoder_layers(body):
        layer.compile()
