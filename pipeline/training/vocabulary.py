"""The supervised tokens of a batch and their losses, whatever the model's vocabulary head is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from pipeline.modeling.loading import backbone, plain_model
from pipeline.modeling.packing_probe import packed_inputs
from pipeline.training.cross_entropy import chunk_rows, is_plain_linear, linear_cross_entropy

# Models that do more to their logits than project the states, each in a way of its own.
_SCALED_LOGITS = (
    "final_logit_softcapping", "logits_soft_cap", "logits_scaling", "logit_scale",
    "lm_head_multiplier", "output_multiplier",
)  # fmt: skip


@dataclass(frozen=True)
class Tokens:
    """Supervised tokens. B rows, T tokens, N supervised, D features, V vocabulary.

    Attributes:
        wanted: [B, T - 1], whether the token after is supervised.
        targets: [N], which token it is.
        states: [B, T, D], all states of the batch.
        head: states -> logits; None where ``logits`` are there already.
        logits: [N, V] of models that scale them.
    """

    wanted: torch.Tensor
    targets: torch.Tensor
    states: torch.Tensor
    head: Any
    logits: torch.Tensor | None

    def of_rows(self, value_B: torch.Tensor) -> torch.Tensor:
        """One value of each row, for each of its supervised tokens: [N]."""
        return value_B[:, None].expand_as(self.wanted)[self.wanted]

    def loss(self, weights_N: torch.Tensor | None = None) -> torch.Tensor:
        """Summed cross-entropy in nats."""
        if self.logits is None and is_plain_linear(self.head):
            return linear_cross_entropy(
                self._before(), self.head.weight, self.head.bias, self.targets, weights_N
            )
        logits_NV = self.head(self._before()) if self.logits is None else self.logits
        return summed_cross_entropy(_exact(logits_NV), self.targets, weights_N)

    @torch.no_grad()
    def log_probabilities(self) -> torch.Tensor:
        """Of each row's supervised tokens together, without gradients: [B]."""
        losses_N = self._losses()
        found_BT = torch.zeros(self.wanted.shape, dtype=losses_N.dtype, device=losses_N.device)
        found_BT[self.wanted] = losses_N
        # Summed along the row: adding by index has no fixed order on a GPU.
        return -found_BT.sum(dim=1)

    def _losses(self) -> torch.Tensor:
        if self.logits is not None:
            return functional.cross_entropy(_exact(self.logits), self.targets, reduction="none")
        size = chunk_rows(self.head.out_features, self.states.device.type)
        pairs = zip(self._before().split(size), self.targets.split(size), strict=True)
        return torch.cat(
            [
                functional.cross_entropy(_exact(self.head(states)), targets, reduction="none")
                for states, targets in pairs
            ]
        )

    def _before(self) -> torch.Tensor:
        return self.states[:, :-1][self.wanted]


def _exact(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def summed_cross_entropy(
    logits_NV: torch.Tensor, targets_N: torch.Tensor, weights_N: torch.Tensor | None
) -> torch.Tensor:
    """Summed loss in nats, of logits that are there."""
    if weights_N is None:
        return functional.cross_entropy(logits_NV, targets_N, reduction="sum")
    losses_N = functional.cross_entropy(logits_NV, targets_N, reduction="none")
    return (losses_N * weights_N).sum()


def read_tokens(body: Any, batch: Mapping[str, torch.Tensor]) -> Tokens:
    """Runs the body over ``input_ids`` [B, T]; ``supervised`` says which tokens are learned."""
    model, ids_BT = plain_model(body), batch["input_ids"]
    wanted_BT = batch["supervised"][:, 1:]
    targets_N = ids_BT[:, 1:][wanted_BT]
    inputs: dict[str, Any] = {"input_ids": ids_BT, "attention_mask": batch["attention_mask"]}
    if "position_ids" in batch:
        inputs = packed_inputs(model, ids_BT, batch["position_ids"])
    shape = (*ids_BT.shape, -1)
    if scales_logits(model):
        made = model(**inputs, output_hidden_states=True)
        states_BTD = made.hidden_states[-1].reshape(shape)
        logits_NV = made.logits.reshape(shape)[:, :-1][wanted_BT]
        return Tokens(wanted_BT, targets_N, states_BTD, None, logits_NV)
    states_BTD = backbone(model)(**inputs).last_hidden_state.reshape(shape)
    return Tokens(wanted_BT, targets_N, states_BTD, model.get_output_embeddings(), None)


def scales_logits(model: Any) -> bool:
    """Whether logits are more than the projected states."""
    config = model.config.get_text_config()
    return any(getattr(config, name, None) for name in _SCALED_LOGITS)
