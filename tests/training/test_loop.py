"""The loop against plain PyTorch, across layouts, across kills."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM, get_scheduler

from pipeline.core.errors import TrainingError
from pipeline.core.schema_train import Schedule
from pipeline.data.arrow import write_split
from pipeline.training.batches import BatchOrder, shares
from pipeline.training.launching import run_launched
from pipeline.training.loop import Training, train
from pipeline.training.schedule import learning_rate_factor
from tests.training.training_case import broken_at, job, losses, quiet, weights


def test_first_update_equals_a_hand_written_one(root: Path, data: Path, tmp_path: Path) -> None:
    """Oracle: transformers' own loss on the same rows, torch's AdamW by hand."""
    ours = job(
        root, data, tmp_path, method="full", max_steps=1, warmup_ratio=0.0, learning_rate=1e-3
    )
    training = Training(ours, quiet)
    rows = [training.rows[i] for i in training.order.at(0)]
    # The kernel that the loop takes for rows as short as these.
    model = Qwen3ForCausalLM.from_pretrained(str(root), attn_implementation="eager")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    summed, count = torch.zeros(()), 0
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        labels = ids.masked_fill(torch.tensor([row["supervised"]]) == 0, -100)
        targets = int((labels[:, 1:] != -100).sum())
        summed = summed + model(ids, labels=labels).loss * targets
        count += targets
    (summed / count).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    training.run()
    assert losses(ours)[0] == pytest.approx(float(summed.detach()) / count, abs=1e-5)
    expected = dict(model.named_parameters())
    for name, tensor in load_file(str(Path(ours.out) / "model.safetensors")).items():
        torch.testing.assert_close(tensor, expected[name].data, rtol=0, atol=2e-5)


@pytest.mark.parametrize("objective", ["sft", "classify"])
def test_micro_batches_change_nothing(
    objective: str, root: Path, data: Path, tmp_path: Path
) -> None:
    whole = job(root, data, tmp_path / "a", objective, micro_batch_size=6)
    parts = job(root, data, tmp_path / "b", objective, micro_batch_size=2)
    train(whole, quiet)
    train(parts, quiet)
    assert losses(whole) == pytest.approx(losses(parts), abs=1e-5)


@pytest.mark.parametrize("objective", ["sft", "classify"])
def test_two_processes_equal_one(objective: str, root: Path, data: Path, tmp_path: Path) -> None:
    one = job(root, data, tmp_path / "one", objective)
    two = job(root, data, tmp_path / "two", objective, launch={"num_processes": 2})
    train(one, quiet)
    facts = run_launched(two, quiet)
    assert facts["processes"] == 2
    assert facts["wrapper"] == "DistributedDataParallel"
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[name], tensor, rtol=0, atol=1e-4)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resumed_equals_undisturbed_to_the_byte(
    stop: int, root: Path, data: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"lora_dropout": 0.2, "save_steps": 1, "eval_steps": 2,
                                "load_best_model_at_end": True}  # fmt: skip
    straight = job(root, data, tmp_path / "a", **settings)
    train(straight, quiet)
    broken = job(root, data, tmp_path / "b", **settings)
    broken_at(broken, stop + 1)
    facts = train(broken, quiet)
    assert facts["resumed_from"] == stop
    for name in ("adapter_model.safetensors", "history.jsonl"):
        assert (Path(broken.out) / name).read_bytes() == (Path(straight.out) / name).read_bytes()


def test_torn_checkpoint_falls_back_to_the_one_before(
    root: Path, data: Path, tmp_path: Path
) -> None:
    done = job(root, data, tmp_path, save_steps=2)
    train(done, quiet)
    newest = sorted(Path(done.work).glob("step-*"))[-1] / "rank-00000.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    told: list[str] = []
    facts = train(done, lambda event: told.append(str(event.get("message", ""))))
    assert facts["resumed_from"] == 4
    assert any("torn" in text for text in told)


def test_same_seed_same_bytes_other_seed_other_bytes(
    root: Path, data: Path, tmp_path: Path
) -> None:
    jobs = [job(root, data, tmp_path / name) for name in "abc"]
    jobs[2] = replace(jobs[2], config={**jobs[2].config, "seed": 2})
    for one in jobs:
        train(one, quiet)
    found = [(Path(j.out) / "adapter_model.safetensors").read_bytes() for j in jobs]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_nothing_supervised_is_an_error(root: Path, data: Path, tmp_path: Path) -> None:
    rows = [{"example_id": "x", "text": "", "label": None, "input_ids": [5, 6, 7],
             "supervised": [0, 0, 0]}]  # fmt: skip
    folder = tmp_path / "data"
    folder.mkdir()
    write_split(folder / "train.arrow", rows)
    (folder / "labels.json").write_text("[]")
    with pytest.raises(TrainingError, match="without supervised tokens"):
        train(job(root, folder, tmp_path / "job"), quiet)


def test_non_finite_loss_is_an_error(root: Path, data: Path, tmp_path: Path) -> None:
    wild = job(root, data, tmp_path, method="full", learning_rate=1e30, max_steps=8)
    with pytest.raises(TrainingError, match=r"learning_rate"):
        train(wild, quiet)


def test_lost_process_count_is_an_error(root: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="2 asked for, 1 came up"):
        train(job(root, data, tmp_path, launch={"num_processes": 2}), quiet)


def test_qlora_trains_on_a_cpu(root: Path, data: Path, tmp_path: Path) -> None:
    done = job(root, data, tmp_path, method="qlora", max_steps=12)
    train(done, quiet)
    found = losses(done)
    assert found[-1] < found[0]


def test_qlora_keeps_a_parent_beside_the_quantised_base(
    root: Path, data: Path, tmp_path: Path
) -> None:
    from pipeline.modeling.adapter_files import factors, read_adapter, write_adapter
    from pipeline.modeling.stacking import canonical, stack

    parent = job(root, data, tmp_path / "parent", max_steps=12)
    train(parent, quiet)
    joined, rank = stack([factors(*read_adapter(Path(parent.out)))])
    (tmp_path / "stacked").mkdir()
    write_adapter(tmp_path / "stacked", *canonical(joined, rank, "CAUSAL_LM"))
    alone = job(root, data, tmp_path / "alone", method="qlora", max_steps=1)
    over = replace(
        job(root, data, tmp_path / "over", method="qlora", max_steps=1),
        parent=str(tmp_path / "stacked"),
    )
    train(alone, quiet)
    train(over, quiet)
    assert losses(over)[0] < losses(alone)[0] - 0.1


OPTIONS: dict[str, dict[str, float]] = {
    "cosine_with_restarts": {"num_cycles": 3}, "polynomial": {"power": 2.0},
    "cosine_with_min_lr": {"min_lr_rate": 0.2}, "warmup_stable_decay": {"num_decay_steps": 12},
    "inverse_sqrt": {"timescale": 7},
}  # fmt: skip


@pytest.mark.parametrize("kind", get_args(Schedule))
def test_schedule_after_its_warm_up_is_that_of_transformers(kind: str) -> None:
    """Oracle: transformers.get_scheduler; our first update is not wasted on a rate of 0."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    options = OPTIONS.get(kind, {})
    theirs = get_scheduler(
        kind, optimizer, num_warmup_steps=0, num_training_steps=50,
        scheduler_specific_kwargs=dict(options),
    )  # fmt: skip
    warmup = 0 if kind == "constant" else 10
    ours = learning_rate_factor(
        {"lr_scheduler_type": kind, "lr_scheduler_kwargs": options, "warmup_ratio": 0.0,
         "warmup_steps": 10, "learning_rate": 0.5},
        50 + warmup,
    )  # fmt: skip
    ramp = [ours(step) for step in range(warmup)]
    assert ramp == pytest.approx([(step + 1) / 11 for step in range(warmup)])
    for step in range(50):
        assert 0.5 * ours(warmup + step) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_unknown_schedule_option_is_named() -> None:
    with pytest.raises(TrainingError, match=r"lr_scheduler_kwargs: .*banana"):
        learning_rate_factor(
            {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"banana": 1.0},
             "warmup_ratio": 0.0, "learning_rate": 0.5}, 9,
        )  # fmt: skip


def test_every_row_is_seen_once_an_epoch() -> None:
    lengths = [7 * i % 31 for i in range(103)]
    order = BatchOrder(lengths, 8, seed=5)
    for epoch in range(3):
        steps = range(epoch * order.per_epoch, (epoch + 1) * order.per_epoch)
        assert sorted(i for s in steps for i in order.at(s)) == list(range(103))
    assert order.at(0) != BatchOrder(lengths, 8, seed=6).at(0)


def test_ranks_share_a_batch_without_loss_or_repeat() -> None:
    for rows, world, micro in ((10, 3, 2), (7, 2, 8), (1, 2, 1)):
        parts = [shares(range(rows), rank, world, micro) for rank in range(world)]
        assert sorted(i for rank in parts for part in rank for i in part) == list(range(rows))
        assert len({len(rank) for rank in parts}) == 1
        assert len(parts[0]) == math.ceil(math.ceil(rows / world) / micro)
