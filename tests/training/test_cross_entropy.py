"""The chunked loss of a vocabulary against torch's own over all logits at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.modeling.at_once import CHUNK_ELEMENTS
from pipeline.training.cross_entropy import chunk_rows, linear_cross_entropy

N, D, V = 37, 12, 29
Case = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def case(dtype: torch.dtype) -> Case:
    """(states, weight, bias, targets, weights), all that can be with gradients."""
    generator = torch.Generator().manual_seed(0)
    states, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((N, D), (V, D), (V,))
    )
    targets = torch.randint(V, (N,), generator=generator)
    # Negative ones too: DPO pushes rejected answers down.
    counts = torch.randn(N, generator=generator, dtype=torch.float64).to(dtype)
    return states, weight, bias, targets, counts


def plain(states: Any, weight: Any, bias: Any, targets: Any, counts: Any) -> torch.Tensor:
    losses = functional.cross_entropy(
        functional.linear(states, weight, bias), targets, reduction="none"
    )
    return (losses if counts is None else losses * counts).sum()


@pytest.mark.parametrize("chunk", [1, 8, N, 1000])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_loss_and_gradients_are_those_of_torch(
    dtype: torch.dtype, allowed: float, biased: bool, weighted: bool, chunk: int
) -> None:
    states, weight, bias, targets, counts = case(dtype)
    leaves = [states, weight, *([bias] if biased else [])]
    b, c = bias if biased else None, counts if weighted else None
    expected = plain(states, weight, b, targets, c)
    wanted = torch.autograd.grad(expected / N, leaves)
    ours = linear_cross_entropy(states, weight, b, targets, c, chunk)
    found = torch.autograd.grad(ours / N, leaves)
    torch.testing.assert_close(ours, expected, rtol=allowed, atol=0)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=allowed, atol=allowed)


@pytest.mark.parametrize("frozen", [False, True])
def test_under_autocast_it_rounds_as_torch_does(frozen: bool) -> None:
    """bf16 products, float32 softmax: one chunk is the plain path to the last bit or nearly."""
    states, weight, _, targets, _ = case(torch.float32)
    weight.requires_grad_(not frozen)
    leaves = [states] if frozen else [states, weight]
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(states, weight, None, targets, None, 1000)
        expected = functional.cross_entropy(
            functional.linear(states, weight).float(), targets, reduction="sum"
        )
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)
    pairs = zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(expected, leaves),
                strict=True)  # fmt: skip
    for one, other in pairs:
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)


def test_tied_weights_gather_both_gradients() -> None:
    _, weight, _, targets, _ = case(torch.float64)
    ids = torch.arange(N) % V
    expected = plain(torch.tanh(weight[ids]), weight, None, targets, None)
    (wanted,) = torch.autograd.grad(expected, [weight])
    ours = linear_cross_entropy(torch.tanh(weight[ids]), weight, None, targets, None, 8)
    (found,) = torch.autograd.grad(ours, [weight])
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_no_targets_are_no_loss_and_no_gradient() -> None:
    states, weight, bias, _, _ = case(torch.float32)
    none = torch.zeros(0, dtype=torch.long)
    ours = linear_cross_entropy(states[:0], weight, bias, none)
    ours.backward()
    assert float(ours.detach()) == 0.0
    assert weight.grad is not None
    assert not weight.grad.any()


class _Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.parametrize("gradients", [False, True])
def test_no_tensor_is_larger_than_a_chunk_of_logits(gradients: bool) -> None:
    rows, width, words, chunk = 512, 8, 256, 16
    states = torch.randn(rows, width, requires_grad=gradients)
    weight = torch.randn(words, width, requires_grad=gradients)
    targets = torch.randint(words, (rows,))
    with _Largest() as ours:
        loss = linear_cross_entropy(states, weight, None, targets, None, chunk)
        if gradients:
            loss.backward()
    with _Largest() as theirs:
        plain(states, weight, None, targets, None)
    assert ours.elements == chunk * words
    assert theirs.elements == rows * words


def test_without_gradients_none_are_made() -> None:
    states, weight, _, targets, _ = case(torch.float32)
    with torch.no_grad(), _Operations() as seen:
        linear_cross_entropy(states, weight, None, targets, None, 8)
    assert seen.products == -(-N // 8)
    weight.requires_grad_(False)
    with _Operations() as seen:
        linear_cross_entropy(states, weight, None, targets, None, 8)
    assert seen.products == 2 * -(-N // 8)


class _Operations(TorchDispatchMode):
    """Counts matrix products."""

    products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.products += func.overloadpacket.__name__ in {"mm", "addmm", "addmm_"}
        return func(*args, **(kwargs or {}))


def test_gradients_that_were_used_are_not_used_again() -> None:
    states, weight, _, targets, _ = case(torch.float32)
    loss = linear_cross_entropy(states, weight, None, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used already"):
        loss.backward()


@pytest.mark.parametrize("vocabulary", [300, 32_000, 151_936, 262_144, 1 << 25])
def test_chunk_follows_from_the_vocabulary_alone(vocabulary: int) -> None:
    rows = chunk_rows(vocabulary)
    assert rows * vocabulary <= max(CHUNK_ELEMENTS["cpu"], vocabulary)
    assert (rows + 1) * vocabulary > CHUNK_ELEMENTS["cpu"]
