"""A training that would end in a model that learned nothing ends in an error that says where."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.core.errors import GradusError, ModelError, TrainingError
from pipeline.training.health import PATIENCE, Health
from pipeline.training.loop import Training, train
from tests.training.matrix import cell_job
from tests.training.training_case import job, losses, quiet

LORA = ("sft", "causal", "lora")
FULL = ("sft", "causal", "full")
ROWS = [{"example_id": "row-7"}]


def _refused(training: Training, words: str) -> str:
    with pytest.raises(TrainingError, match=words) as caught:
        training.run()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_loss_that_is_no_number_names_update_and_row(bench: Path, tmp_path: Path) -> None:
    wild = cell_job(bench, FULL, "single", tmp_path, learning_rate=1e30, max_steps=8)
    text = _refused(Training(wild, quiet), r"train\.learning_rate")
    assert "at update 2 (first row " in text


def test_gradient_that_is_no_number_is_an_error(bench: Path, tmp_path: Path) -> None:
    training = Training(cell_job(bench, FULL, "single", tmp_path), quiet)
    weight = next(iter(training.trainable.values()))
    weight.register_hook(lambda gradient: gradient * float("inf"))
    text = _refused(training, "gradient norm")
    assert "update 1 (first row " in text


def test_gradient_that_stays_zero_is_an_error(bench: Path, tmp_path: Path) -> None:
    """What is trained has no part in the loss: its path is cut."""
    training = Training(cell_job(bench, LORA, "single", tmp_path, max_steps=20), quiet)
    for weight in training.trainable.values():
        weight.register_hook(torch.zeros_like)
    text = _refused(training, "no gradient in 5 updates up to update 5")
    assert "train.target_modules" in text


def test_first_token_of_a_causal_model_is_refused_where_only_training_knows_the_base(
    bench: Path, tmp_path: Path
) -> None:
    head = {"pooling": "cls", "dropout": 0.0}
    cell = ("classify", "causal", "lora")
    with pytest.raises(ModelError, match=r"train\.head\.pooling: cls .* use last or mean"):
        train(cell_job(bench, cell, "single", tmp_path / "causal", head=head), quiet)
    cell = ("classify", "encoder", "lora")
    assert train(cell_job(bench, cell, "single", tmp_path / "encoder", head=head), quiet)


def test_target_that_takes_no_part_in_the_loss_is_an_error(bench: Path, tmp_path: Path) -> None:
    """An adapter of the vocabulary head's part, under a classifier that never asks it."""
    cell = ("classify", "encoder", "lora")
    odd = cell_job(bench, cell, "single", tmp_path, target_modules=["transform.dense"])
    with pytest.raises(GradusError) as caught:
        train(odd, quiet)
    assert "train.target_modules" in str(caught.value) or "update is zero" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cell", [FULL, ("classify", "encoder", "full")], ids=str)
def test_rate_that_float32_swallows_is_an_error(cell: Any, bench: Path, tmp_path: Path) -> None:
    tiny = cell_job(bench, cell, "single", tmp_path, learning_rate=1e-30, max_steps=20)
    text = _refused(Training(tiny, quiet), "no weight has changed up to update 5")
    assert "raise train.learning_rate" in text


def test_rate_that_float32_swallows_is_an_error_of_a_short_training_too(
    bench: Path, tmp_path: Path
) -> None:
    tiny = cell_job(bench, FULL, "single", tmp_path, learning_rate=1e-30, max_steps=2)
    _refused(Training(tiny, quiet), "no weight has changed up to update 2")


def test_head_that_learns_does_not_hide_an_adapter_that_does_not(
    bench: Path, tmp_path: Path
) -> None:
    cell = ("classify", "causal", "lora")
    odd = cell_job(bench, cell, "single", tmp_path, learning_rate=1e-300, max_steps=20,
                   head_learning_rate=1e-2)  # fmt: skip
    _refused(Training(odd, quiet), "no weight has changed up to update 5")


def test_adapter_whose_update_stays_zero_is_an_error(bench: Path, tmp_path: Path) -> None:
    """A first factor that moves alone: times a second one of zeros it is nothing."""
    training = Training(cell_job(bench, LORA, "single", tmp_path, max_steps=6), quiet)
    for name, weight in training.trainable.items():
        if "lora_B" in name:
            weight.register_hook(torch.zeros_like)
    _refused(training, "the adapter's update is zero|no gradient|the loss stays")


def _same_loss(health: Health) -> None:
    for step in range(1, 20):
        health.require(step, 2.5, 1.0, 1e-3 if step > 1 else 0.0, ROWS)


def test_loss_that_stays_is_an_error_with_its_value() -> None:
    health = Health(lambda: True, fresh=True)
    with pytest.raises(TrainingError, match=r"the loss stays at 2\.5 for 6 updates up to update 7"):
        _same_loss(health)


def test_what_was_learned_to_the_end_is_no_error() -> None:
    """Loss and gradient are exactly zero late, and nothing moves any more."""
    health = Health(lambda: True, fresh=True)
    health.require(1, 3.0, 1.0, 1e-3, ROWS)
    health.require(2, 1.0, 0.5, 1e-3, ROWS)
    for step in range(3, 50):
        health.require(step, 0.0, 0.0, 1e-3, ROWS)
    health.end(50)


def test_resumed_training_is_not_suspected() -> None:
    health = Health(lambda: False, fresh=False)
    for step in range(90, 90 + 3 * PATIENCE):
        health.require(step, 0.0, 0.0, 1e-9, ROWS)
    health.end(120)


def test_rows_without_supervised_tokens_are_named(bench: Path, tmp_path: Path) -> None:
    from pipeline.data.arrow import write_split

    data = tmp_path / "data"
    data.mkdir()
    write_split(data / "train.arrow", [
        {"example_id": "mute", "text": "", "label": None, "input_ids": [5, 6, 7],
         "supervised": [0, 0, 0]}])  # fmt: skip
    (data / "labels.json").write_text("[]")
    with pytest.raises(TrainingError, match=r"without supervised tokens") as caught:
        train(job(bench / "causal", data, tmp_path / "job"), quiet)
    assert "mute" in str(caught.value)


def test_init_from_goes_on_where_the_other_ended(bench: Path, tmp_path: Path) -> None:
    """Other weights, but a fresh optimiser, update 0, its own checkpoints."""
    settings: dict[str, Any] = {"max_steps": 12, "lr_scheduler_type": "constant"}
    first = cell_job(bench, LORA, "single", tmp_path / "first", **settings)
    train(first, quiet)
    then = cell_job(bench, LORA, "single", tmp_path / "then", **settings)
    then = replace(then, init=first.out, config={**then.config, "seed": 3})
    training = Training(then, quiet)
    assert not training.optimizer.state
    assert training.run()["resumed_from"] is None
    assert losses(then)[0] < losses(first)[0] - 0.5
    assert losses(then)[0] == pytest.approx(losses(first)[-1], abs=0.6)
    # The same rows under the first training's last weights: the figure is exact.
    again = replace(then, out=str(tmp_path / "again"), work=str(tmp_path / "work"))
    for folder in (again.out, again.work):
        Path(folder).mkdir()
    fresh = Training(again, quiet)
    saved = load_file(str(Path(first.out) / "adapter_model.safetensors"))
    mine = {n.replace(".default", "").removeprefix("body."): p for n, p in
            fresh.trainable.items()}  # fmt: skip
    assert saved.keys() == mine.keys()
    assert all(torch.equal(parameter, saved[name]) for name, parameter in mine.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora_r": 8}, "its lora_r is 4, and here it is 8; set train.lora_r: 4"),
        ({"target_modules": ["q_proj"]}, "target"),
    ],
)
def test_init_from_another_form_is_refused_in_one_line(
    change: dict[str, Any], words: str, bench: Path, tmp_path: Path
) -> None:
    first = cell_job(bench, LORA, "single", tmp_path / "first", max_steps=2)
    train(first, quiet)
    other = cell_job(bench, LORA, "single", tmp_path / "other", max_steps=2)
    other = replace(other, init=first.out, config={**other.config, **change})
    with pytest.raises(ModelError, match=words) as caught:
        train(other, quiet)
    assert "\n" not in str(caught.value)


def test_history_holds_no_times(bench: Path, tmp_path: Path) -> None:
    """It is part of what a rerun must make again."""
    done = cell_job(bench, LORA, "single", tmp_path)
    train(done, quiet)
    lines = (Path(done.out) / "history.jsonl").read_text().splitlines()
    keys = {key for line in lines for key in json.loads(line)}
    assert keys <= {"step", "loss", "learning_rate", "grad_norm", "validation_loss"}
