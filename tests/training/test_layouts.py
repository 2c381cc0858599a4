"""A checkpoint of one layout goes on in another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.training.trainee import TrainJob
from tests.training.forked import Forge
from tests.training.matrix import cell_job
from tests.training.training_case import losses, weights

FULL = ("sft", "causal", "full")
LORA = ("sft", "causal", "lora")
SETTINGS: dict[str, Any] = {"max_steps": 8, "save_steps": 2, "eval_steps": 2,
                            "load_best_model_at_end": True}  # fmt: skip
TURNS = [
    (FULL, "fsdp", "single"), (FULL, "ddp", "single"), (FULL, "single", "fsdp"),
    (LORA, "ddp", "fsdp"), (("dpo", "causal", "lora"), "fsdp", "single"),
    (LORA, "fsdp", "single"), (LORA, "fsdp", "ddp"), (LORA, "single", "ddp"),
    (("hybrid", "causal", "full"), "fsdp", "single"),
]  # fmt: skip
QUICK = 5


def _processes(wrapper: str) -> int:
    return 1 if wrapper == "single" else 2


@pytest.mark.parametrize(
    ("cell", "first", "then"),
    [pytest.param(c, a, b, id=f"{' '.join(c)} {a} to {b}", marks=[pytest.mark.long] * (i >= QUICK))
     for i, (c, a, b) in enumerate(TURNS)],
)  # fmt: skip
def test_checkpoint_goes_on_in_another_layout(
    cell: Any, first: str, then: str, bench: Path, forge: Forge, tmp_path: Path
) -> None:
    straight = cell_job(bench, cell, "single", tmp_path / "straight", **SETTINGS)
    assert forge.run(straight).codes == [0]
    killed = cell_job(bench, cell, first, tmp_path / "turned", **SETTINGS)
    ended = forge.run(killed, processes=_processes(first), kill=("update", 5))
    # One may hear that the other has gone before it is killed itself.
    assert -9 in ended.codes
    assert 0 not in ended.codes
    job = _in_layout(killed, cell_job(bench, cell, then, tmp_path / "other", **SETTINGS))
    again = forge.run(job, processes=_processes(then))
    assert not any(again.codes), again
    assert again.facts["resumed_from"] == 4
    assert again.facts["processes"] == _processes(then)
    assert losses(job) == pytest.approx(losses(straight), abs=1e-5)
    expected, found = weights(straight), weights(job)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        # AdamW divides by the gradient's size: where that is near nothing, rounding shows.
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=5e-4)


def _in_layout(job: TrainJob, like: TrainJob) -> TrainJob:
    return replace(job, options={**job.options, "launch": like.options["launch"]})


def test_shards_hold_each_weight_once(bench: Path, forge: Forge, tmp_path: Path) -> None:
    """Bytes on disk do not grow with the processes: shards, not copies."""
    sizes = {}
    for wrapper in ("single", "fsdp"):
        job = cell_job(bench, FULL, wrapper, tmp_path / wrapper, max_steps=2, save_steps=2)
        assert not any(forge.run(job, processes=_processes(wrapper)).codes)
        files = sorted(Path(job.work).glob("step-*/*.safetensors"))
        assert len(files) == _processes(wrapper)
        sizes[wrapper] = [file.stat().st_size for file in files]
    assert sum(sizes["fsdp"]) == pytest.approx(sum(sizes["single"]), rel=0.1)
    assert max(sizes["fsdp"]) < 0.6 * sizes["single"][0]
