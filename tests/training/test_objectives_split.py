"""Loss and gradients are the same whatever the split of the global batch, for each objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.core.objectives import OBJECTIVES
from pipeline.training.modules import kind_of
from pipeline.training.scores import scoreboard_for
from pipeline.training.targets import TOKENWISE, target_count
from tests.training.objective_case import batch_for, bert, in_parts, qwen, trainee_of

CAUSAL = [(name, "qwen") for name in OBJECTIVES if name != "mlm"]
ENCODER = [(name, "bert") for name in ("mlm", "classify", "tag", "regress")]
CELLS = [
    *((name, base, {}) for name, base in CAUSAL + ENCODER),
    *((name, "lora", {}) for name, _ in CAUSAL if name != "pretrain"),
    ("classify", "qwen", {"several": True}),
    ("classify", "bert", {"several": True, "features": True}),
    ("classify", "qwen", {"features": True, "head": {"pooling": "mean", "dropout": 0.0}}),
    ("sft", "qwen", {"loss_weighting": "row"}),
    ("hybrid", "qwen", {"loss_weighting": "row"}),
]


def body(name: str) -> Any:
    return bert() if name == "bert" else qwen(lora=name == "lora")


@pytest.mark.parametrize(("objective", "base", "settings"), CELLS)
def test_split_of_the_batch_changes_nothing(
    objective: str, base: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    trainee, config = trainee_of(objective, body(base), tmp_path, **settings)
    batch = batch_for(trainee, config)
    loss, expected = in_parts(trainee, batch, len(batch["input_ids"]))
    assert expected
    for micro, world in ((1, 1), (3, 1), (2, 2), (1, 3)):
        other, found = in_parts(trainee, batch, micro, world)
        assert other == pytest.approx(loss, abs=1e-5)
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("objective", "base", "settings"), CELLS)
def test_count_of_the_parts_is_that_of_the_batch(
    objective: str, base: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """What a module counts is what the loop divides by: validation and training agree."""
    trainee, config = trainee_of(objective, body(base), tmp_path, **settings)
    batch = batch_for(trainee, config)
    with torch.no_grad():
        summed, count, logits = trainee.module.outputs(batch)  # type: ignore[operator]
        again, _ = trainee.module(batch)
    assert float(count) == pytest.approx(target_count(trainee.module, batch))
    assert float(summed) == float(again)
    board = scoreboard_for(trainee.module, trainee.labels)
    kind = kind_of(trainee.module)
    assert (logits is None) == (kind == "text")
    if logits is not None:
        board.add(batch, logits)
    assert set(board.metrics()) == set(OBJECTIVES[objective].measures)


@pytest.mark.parametrize(("objective", "base", "settings"), CELLS)
def test_padding_changes_nothing(
    objective: str, base: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    trainee, config = trainee_of(objective, body(base), tmp_path, **settings)
    batch = batch_for(trainee, config)
    fill = {"tags": -100}
    wider = {
        name: torch.nn.functional.pad(tensor, (0, 8), value=fill.get(name, 0))
        if name in TOKENWISE
        else tensor
        for name, tensor in batch.items()
    }
    with torch.no_grad():
        assert float(trainee.module(wider)[0]) == pytest.approx(
            float(trainee.module(batch)[0]), abs=1e-4
        )


def test_every_tokenwise_tensor_ends_in_tokens_and_no_other_does(tmp_path: Path) -> None:
    """The loop trims the named ones; a tensor of rows that were trimmed would lose rows."""
    for objective, base, settings in CELLS:
        trainee, config = trainee_of(objective, body(base), tmp_path, **settings)
        batch = batch_for(trainee, config)
        tokens = batch["input_ids"].shape[-1]
        for name, tensor in batch.items():
            assert len(tensor) == len(batch["input_ids"])
            assert (tensor.ndim > 1 and tensor.shape[-1] == tokens) == (name in TOKENWISE)
        (tmp_path / "features.json").unlink(missing_ok=True)
