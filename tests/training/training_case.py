"""Trainings of a few seconds: settings, and what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.core.schema import Train
from pipeline.train_plan import train_config, train_options
from pipeline.training.loop import train
from pipeline.training.trainee import TrainJob

TEXTS = [f"the {a} {b} and the {b} {a}" for a in ("red", "blue", "grey") for b in
         ("ship", "sail", "rope", "crane", "dock", "tide")]  # fmt: skip


def job(root: Path, data: Path, folder: Path, objective: str = "sft", **settings: Any) -> TrainJob:
    section = Train.model_validate(
        {"objective": objective, "learning_rate": 1e-2, "global_batch_size": 6, "max_steps": 6,
         "precision": "fp32", "lora_r": 4, "target_modules": "all-linear", **settings}
    )  # fmt: skip
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True)
    work.mkdir()
    options = {**train_options(section), "threads": 1, "launch": section.launch.model_dump()}
    config = {**train_config(section, objective), "seed": 1}
    config["loss_weighting"] = section.loss_weighting
    return TrainJob(str(root), None, str(data), str(out), str(work), config, options)


def weights(done: TrainJob) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in Path(done.out).glob("*.safetensors"):
        found |= load_file(str(path))
    return found


def losses(done: TrainJob) -> list[float]:
    lines = (Path(done.out) / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines if "loss" in json.loads(line)]


def quiet(_event: Any) -> None:
    return


def broken_at(done: TrainJob, step: int) -> None:
    """Trains until update ``step`` has been told; then the power goes."""

    class PowerCutError(Exception):
        pass

    def cut(event: Any) -> None:
        if event.get("step") == step and "loss" in event:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train(done, cut)
