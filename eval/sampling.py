"""Texts drawn from a model, the same whatever stands beside them in a batch.

B rows of the batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.core.digest import text_digest

if TYPE_CHECKING:
    import torch

_TINY = 1e-20


def drawing(example_ids: Sequence[str], temperature: float, seed: int) -> list[Any]:
    """What ``generate`` needs as ``logits_processor`` to draw instead of taking the likeliest.

    The likeliest token of logits / temperature + Gumbel noise is a draw from their softmax
    (Gumbel 1954; Maddison et al. 2014). Each row has noise of its own, by its id and the seed.

    Args:
        example_ids: of the batch's rows, in their order.
        temperature: above 0.
        seed: of all draws.
    """
    from transformers import LogitsProcessor

    class Gumbel(LogitsProcessor):
        """Adds each row's noise."""

        def __init__(self) -> None:
            self.generators_B: list[torch.Generator] = []

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            import torch

            if not self.generators_B:
                self.generators_B = [
                    torch.Generator(scores.device).manual_seed(_seed(seed, name))
                    for name in example_ids
                ]
            uniform_BV = torch.stack(
                [
                    torch.rand(scores.shape[1], generator=g, device=scores.device)
                    for g in self.generators_B
                ]
            )
            spread_BV = -torch.log(uniform_BV.clamp_min(_TINY))
            noise_BV = -torch.log(spread_BV.clamp_min(_TINY))
            return scores.float() / temperature + noise_BV

    return [Gumbel()]


def _seed(seed: int, name: str) -> int:
    return int(text_digest(f"{seed}:{name}")[:15], 16)
