"""Drawn tokens follow the softmax, row by row, whatever stands beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import chisquare

from eval.sampling import drawing


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_have_the_probabilities_of_the_softmax(temperature: float) -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5], dtype=torch.float64)
    names = [f"row {i}" for i in range(400)]
    (draw,) = drawing(names, temperature, 0)
    counts = np.zeros(5)
    for _ in range(10):
        drawn = draw(torch.zeros(400, 1), logits.repeat(400, 1)).argmax(-1)
        counts += np.bincount(drawn.numpy(), minlength=5)
    wanted = softmax(logits.numpy() / temperature)
    assert chisquare(counts, wanted / wanted.sum() * counts.sum()).pvalue > 0.001


def test_a_row_draws_the_same_in_any_company_and_otherwise_with_another_seed() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    ids = torch.zeros(3, 1)

    def noisy(names: list[str], rows: list[int], seed: int) -> torch.Tensor:
        (draw,) = drawing(names, 0.7, seed)
        draw(ids[rows], logits[rows])
        made: torch.Tensor = draw(ids[rows], logits[rows])
        return made

    together = noisy(["a", "b", "c"], [0, 1, 2], 0)
    assert torch.equal(together[1], noisy(["b"], [1], 0)[0])
    assert not torch.equal(together[1], noisy(["b"], [1], 1)[0])
    assert not torch.equal(together[0] - logits[0] / 0.7, together[2] - logits[2] / 0.7)
