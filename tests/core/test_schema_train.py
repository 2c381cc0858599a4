"""What a recipe's training section refuses by itself."""

from __future__ import annotations

import inspect
import itertools
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from pipeline.core.schema_train import SCHEDULE_OPTIONS, Schedule, Train

BEST = {"eval_steps": 1, "load_best_model_at_end": True}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "pattern that is no expression": ({"rank_pattern": {"[": 4}}, "no regular expression"),
    "alpha pattern that is none": ({"alpha_pattern": {"*": 4}}, "no regular expression"),
    "pattern of nothing": ({"rank_pattern": {"": 4}}, "at least 1 character"),
    "rank 0": ({"rank_pattern": {"q_proj": 0}}, "greater than or equal to 1"),
    "rank above LoRA's own bound": ({"rank_pattern": {"q_proj": 513}}, "less than or equal to 512"),
    "alpha 0": ({"alpha_pattern": {"q_proj": 0}}, "greater than 0"),
    "no target": ({"target_modules": []}, "at least 1 item"),
    "all-linear in a list": ({"target_modules": ["all-linear"]}, "should match pattern"),
    "target with a blank": ({"target_modules": ["q_proj "]}, "should match pattern"),
    "option of another schedule": (
        {"lr_scheduler_kwargs": {"power": 2}}, "cosine does not take power; it takes num_cycles"),
    "option of a schedule that takes none": (
        {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"power": 2}}, "it takes none"),
    "half a restart": (
        {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 1.5}},
        "num_cycles is 1.5; give a whole number"),
    "power of 0": (
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": -1}}, "power is -1"),
    "time scale of 0": (
        {"lr_scheduler_type": "inverse_sqrt", "lr_scheduler_kwargs": {"timescale": 0}},
        "timescale is 0"),
    "end above the start": (
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1}}, "lr_end is 1"),
    "start below the default end": (
        {"lr_scheduler_type": "polynomial", "learning_rate": 1e-8}, "lr_end is 1e-07"),
    "two least rates": (
        {"lr_scheduler_type": "cosine_with_min_lr",
         "lr_scheduler_kwargs": {"min_lr": 1e-6, "min_lr_rate": 0.1}}, "not both"),
    "measure of no head": (
        {**BEST, "metric_for_best_model": "accuracy"},
        "accuracy is not measured for objective sft; use one of loss"),
    "measure of one of two objectives": (
        {**BEST, "objective": ["classify", "regress"], "metric_for_best_model": "accuracy"},
        "not measured for objective regress; use one of loss, mae, r2"),
    "a tracker twice": ({"report_to": ["wandb", "wandb"]}, "report_to names one twice"),
    "steps without end": ({"max_steps": 10**9}, "less than or equal to"),
    "warm-up without end": ({"warmup_steps": 10**9}, "less than or equal to"),
    "epochs without end": ({"num_train_epochs": 1e9}, "less than or equal to"),
    "batch without end": ({"global_batch_size": 10**9}, "less than or equal to"),
    "length without end": ({"max_length": 10**9}, "less than or equal to"),
}  # fmt: skip

# Their bounds are other settings: the learning rate, the updates.
_OF_THE_RUN = {"lr_end", "min_lr", "num_decay_steps", "num_stable_steps"}


@pytest.mark.parametrize("name", REFUSED)
def test_setting_that_cannot_be_trained_with_is_refused(name: str) -> None:
    keys, words = REFUSED[name]
    with pytest.raises(ValidationError, match=words):
        Train.model_validate(keys)


def test_patterns_and_names_that_peft_takes_are_taken() -> None:
    train = Train.model_validate(
        {
            "rank_pattern": {r"layers\.(0|1)\..*q_proj": 8},
            "alpha_pattern": {"v_proj": 0.5},
            "target_modules": ["q_proj", "layers.0.mlp.up_proj"],
        }
    )
    assert list(train.rank_pattern.values()) == [8]


def test_options_of_schedules_are_those_of_transformers() -> None:
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
    from transformers.trainer_utils import SchedulerType

    shared = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    words = {"warmup_type", "decay_type"}
    assert set(SCHEDULE_OPTIONS) == set(get_args(Schedule))
    for kind, options in SCHEDULE_OPTIONS.items():
        function = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(kind)]
        theirs = set(inspect.signature(function).parameters) - shared - words
        assert set(options) == theirs, kind


@pytest.mark.parametrize("kind", SCHEDULE_OPTIONS)
@pytest.mark.parametrize("end", [0, 1])
def test_schedule_runs_at_both_ends_of_its_options(kind: str, end: int) -> None:
    from pipeline.training.schedule import learning_rate_factor

    names = [name for name in SCHEDULE_OPTIONS[kind] if name not in _OF_THE_RUN]
    for name in (None, *names):
        given = {} if name is None else {name: SCHEDULE_OPTIONS[kind][name][end]}
        train = Train.model_validate({"lr_scheduler_type": kind, "lr_scheduler_kwargs": given})
        factor = learning_rate_factor(train.model_dump(), 20)
        assert all(0 <= factor(step) <= 1 for step in range(20))


def test_stages_of_a_schedule_must_fit_into_its_updates() -> None:
    from pipeline.core.errors import TrainingError
    from pipeline.training.schedule import learning_rate_factor

    options = {"num_stable_steps": 9, "num_decay_steps": 10}
    keys = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": options}
    config = Train.model_validate({**keys, "warmup_steps": 1}).model_dump()
    factor = learning_rate_factor(config, 20)
    assert [factor(9), factor(19) < 0.1] == [1.0, True]
    with pytest.raises(TrainingError, match="more updates than the 18 after the warm-up"):
        learning_rate_factor(config, 19)


def test_every_measure_of_an_objective_may_choose_its_best_model() -> None:
    from pipeline.core.objectives import OBJECTIVES

    for objective, info in OBJECTIVES.items():
        method = "full" if objective == "pretrain" else "lora"
        for measure in info.measured:
            keys = {"objective": objective, "method": method, "metric_for_best_model": measure}
            assert Train.model_validate({**BEST, **keys}).metric_for_best_model == measure
    assert len(set(itertools.chain(*(info.measured for info in OBJECTIVES.values())))) == 8
