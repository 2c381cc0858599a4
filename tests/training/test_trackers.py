"""Trackers: what is sent arrives, what is lost costs a line, and nothing costs the training."""

from __future__ import annotations

import importlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import tracking
from pipeline.core.errors import UserError
from pipeline.core.tracking import missing_tracker
from pipeline.training.trackers import Trackers, open_trackers

RUN = "tiny-task/train.sft.seed1-ab12cd34"
CONFIG = {"learning_rate": 1e-3, "head": {"pooling": "last"}, "target_modules": ["q", "v"]}
LOSSES = {1: 1.0, 2: 0.5, 3: 0.25}


# No lock has them: a long test fetches them, and whoever trains installs what they use.
FETCHED = ("mlflow==3.17.2", "trackio==0.43.0", "wandb==0.31.0")


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The trackers behind all that is installed: nothing of ours is replaced."""
    folder = tmp_path_factory.mktemp("trackers")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), *FETCHED],
        check=True,
    )
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    yield
    sys.path.remove(str(folder))


def by_fetching(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test of a tracker that is fetched: its packages warn as they like."""
    marks = (pytest.mark.long, pytest.mark.usefixtures("fetched"), pytest.mark.timeout(1800),
             pytest.mark.filterwarnings("default"))  # fmt: skip
    for mark in marks:
        test = mark(test)
    return test


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of whoever runs the tests, and no setting that outlives one."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_DIR", "WANDB_PROJECT", "TRACKIO_DIR"):
        # Set first: a variable that was absent would not be taken away again afterwards.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WANDB_MODE", "offline")


def sent(name: str, folder: Path, losses: dict[int, float], first_step: int = 0) -> list[str]:
    told: list[str] = []
    trackers = open_trackers([name], RUN, folder, CONFIG, first_step=first_step, warn=told.append)
    for step, loss in losses.items():
        trackers.log(step, {"loss": loss, "learning_rate": 1e-3})
    trackers.close()
    return told


def tensorboard_losses(folder: Path) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard" / RUN))
    read.Reload()
    return {event.step: event.value for event in read.Scalars("loss")}


def test_tensorboard_itself_reads_what_was_sent(tmp_path: Path) -> None:
    assert sent("tensorboard", tmp_path, LOSSES) == []
    assert tensorboard_losses(tmp_path) == LOSSES


def test_a_resumed_training_draws_over_nothing(tmp_path: Path) -> None:
    sent("tensorboard", tmp_path, {1: 1.0, 2: 0.5, 3: 9.0})
    sent("tensorboard", tmp_path, {3: 0.25, 4: 0.125}, first_step=2)
    assert tensorboard_losses(tmp_path) == {1: 1.0, 2: 0.5, 3: 0.25, 4: 0.125}


@by_fetching
def test_mlflow_keeps_what_was_sent(tmp_path: Path) -> None:
    assert sent("mlflow", tmp_path, LOSSES) == []
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        rows = base.execute("select step, value from metrics where key = 'loss'").fetchall()
        settings = dict(base.execute("select key, value from params").fetchall())
    base.close()
    assert dict(rows) == LOSSES
    assert settings["head.pooling"] == "last"


@by_fetching
def test_trackio_keeps_what_was_sent(tmp_path: Path) -> None:
    assert sent("trackio", tmp_path, LOSSES) == []
    with sqlite3.connect(tmp_path / "trackio" / "tiny-task.db") as base:
        rows = base.execute("select step, metrics from metrics").fetchall()
    base.close()
    assert {step: json.loads(text)["loss"] for step, text in rows} == LOSSES


@by_fetching
def test_wandb_writes_an_offline_run(tmp_path: Path) -> None:
    assert sent("wandb", tmp_path, LOSSES) == []
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


class _Broken:
    """A tracker whose server has gone."""

    def __init__(self) -> None:
        self.asked = 0

    def log(self, _values: Any, step: int) -> None:
        self.asked += 1
        raise ConnectionError(f"gone at {step}\nwith much more to tell")

    def finish(self) -> None:
        self.asked += 1


class _Good:
    def __init__(self) -> None:
        self.steps: list[int] = []

    def log(self, _values: Any, step: int) -> None:
        self.steps.append(step)

    def finish(self) -> None:
        self.steps.append(-1)


def test_a_lost_server_is_told_once_and_the_others_go_on() -> None:
    told: list[str] = []
    broken, good = _Broken(), _Good()
    trackers = Trackers({"mlflow": broken, "wandb": good}, told.append)
    for step in (1, 2, 3):
        trackers.log(step, {"loss": 1.0})
    trackers.close()
    trackers.close()
    assert told == ["mlflow takes no curves (gone at 1); training goes on without it"]
    assert broken.asked == 1
    assert good.steps == [1, 2, 3, -1]


def test_a_folder_that_cannot_be_written_costs_no_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = sent("tensorboard", tmp_path / "file", LOSSES)
    assert len(told) == 1
    assert told[0].startswith("tensorboard takes no curves (")


def test_only_the_main_process_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import PartialState

    monkeypatch.setattr(PartialState, "is_main_process", property(lambda _self: False))
    assert sent("tensorboard", tmp_path / "none", LOSSES) == []
    assert not (tmp_path / "none").exists()


def test_a_tracker_that_is_not_installed_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert missing_tracker(["tensorboard"]) is None
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "wandb" else object())
    with pytest.raises(UserError, match=r"train.report_to: wandb is not installed; `pip install"):
        open_trackers(["tensorboard", "wandb"], RUN, tmp_path, CONFIG)
