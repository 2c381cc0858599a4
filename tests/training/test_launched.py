"""Real launches through torchrun: a rank killed -9, a launcher killed -9, nothing left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import TrainingError
from pipeline.stages.train import with_memory
from pipeline.training import launching
from pipeline.training.launching import run_launched
from pipeline.training.trainee import TrainJob
from tests.training.forked import Forge
from tests.training.matrix import cell_job
from tests.training.training_case import job as small_job
from tests.training.training_case import losses, quiet

FULL = ("sft", "causal", "full")
# From a kill to the next update, on a machine with nothing else to do about 1 s.
_RESTART_S = 20.0
STARTER = b"pipeline.starter"
OWN = os.getpid()


def started_by(owner: int) -> dict[str, int]:
    """Number of each process that a training of ``owner`` started: "starter", "0", "1"."""
    words = {}
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state = dict(
                    x.split(":\t", 1) for x in (folder / "status").read_text().splitlines()
                )
                line = (folder / "cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError):
                continue
            if not state["State"].startswith("Z"):
                parents[int(folder.name)] = int(state["PPid"])
                words[int(folder.name)] = line
    mine = {n for n, line in words.items() if STARTER in line and str(owner).encode() in line}
    first = [n for n in mine if parents[n] not in mine]
    found = {"starter": first[0]} if first else {}
    # Forked in the order of their ranks.
    ranks = sorted(n for n in mine if parents[n] in mine)
    return {**found, **{str(rank): number for rank, number in enumerate(ranks)}}


def gone_within(seconds: float, owner: int, *, but: tuple[str, ...] = ()) -> bool:
    """Whether nothing that ``owner`` started is left, save what is named in ``but``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if set(started_by(owner)) <= set(but):
            return True
        time.sleep(0.1)
    return False


def _launched(bench: Path, folder: Path, restarts: int, **settings: Any) -> TrainJob:
    launch = {"num_processes": 2, "max_restarts": restarts}
    asked = {"max_steps": 60, "save_steps": 10, "launch": launch, **settings}
    return cell_job(bench, FULL, "ddp", folder, **asked)


class KillsOnce:
    """Kills a rank at an update, and notes when."""

    def __init__(self, rank: str, update: int) -> None:
        self._rank, self._update = rank, update
        self.killed_at = self.back_at = 0.0
        self.messages: list[str] = []

    def __call__(self, event: Any) -> None:
        self.messages.append(event.get("message", ""))
        if event.get("step") == self._update and not self.killed_at:
            os.kill(started_by(OWN)[self._rank], signal.SIGKILL)
            self.killed_at = time.monotonic()
        elif "goes on from" in event.get("message", ""):
            self.back_at = time.monotonic()


@pytest.mark.parametrize("rank", ["1", pytest.param("0", marks=pytest.mark.long)])
def test_killed_rank_comes_back_and_the_bytes_are_right(
    rank: str, bench: Path, forge: Forge, tmp_path: Path
) -> None:
    job = _launched(bench, tmp_path / "killed", 2)
    progress = KillsOnce(rank, 15)
    facts = run_launched(job, progress)
    assert progress.killed_at
    assert facts["resumed_from"] >= 10
    assert 0 < progress.back_at - progress.killed_at < _RESTART_S
    print(f"restart took {progress.back_at - progress.killed_at:.1f} s")
    straight = _launched(bench, tmp_path / "straight", 0)
    assert forge.run(straight, processes=2).codes == [0, 0]
    for file in Path(straight.out).iterdir():
        assert (Path(job.out) / file.name).read_bytes() == file.read_bytes()
    assert gone_within(5, OWN, but=("starter",))


@pytest.mark.long
def test_without_restarts_a_killed_rank_is_one_error(bench: Path, tmp_path: Path) -> None:
    job = _launched(bench, tmp_path, 0)
    began = time.monotonic()
    with pytest.raises(TrainingError) as caught:
        run_launched(job, KillsOnce("1", 15))
    assert time.monotonic() - began < _RESTART_S
    assert "died" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert gone_within(5, OWN, but=("starter",))


def test_reported_error_is_not_tried_again(bench: Path, tmp_path: Path) -> None:
    """It would come again: only what dies without a word is started anew."""
    job = _launched(bench, tmp_path, 3, learning_rate=1e30)
    starts: list[int] = []
    with pytest.raises(TrainingError, match=r"train\.learning_rate") as caught:
        run_launched(job, lambda event: starts.append(event["step"]) if "step" in event else None)
    assert "\n" not in str(caught.value)
    assert starts == sorted(set(starts))
    assert gone_within(5, OWN)


_STAGE = """
import json, sys
from pipeline.training.launching import run_launched
from pipeline.training.trainee import TrainJob
run_launched(TrainJob(**json.loads(sys.argv[1])), lambda e: print(json.dumps(e), flush=True))
"""


@pytest.mark.parametrize("end", ["stage", pytest.param("starter", marks=pytest.mark.long)])
def test_nothing_is_left_when_who_started_it_is_killed(
    end: str, bench: Path, tmp_path: Path
) -> None:
    job = _launched(bench, tmp_path, 3, max_steps=100_000, save_steps=100_000)
    with subprocess.Popen(
        [sys.executable, "-c", _STAGE, json.dumps(asdict(job))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    ) as stage:  # fmt: skip
        assert stage.stdout is not None
        for line in stage.stdout:
            if json.loads(line).get("step") == 3:
                break
        running = started_by(stage.pid)
        assert sorted(running) == ["0", "1", "starter"]
        os.kill(running.get(end, stage.pid), signal.SIGKILL)
        assert gone_within(5, stage.pid)
        _, said = stage.communicate(timeout=30)
        if end == "starter":
            assert stage.returncode == 1
            assert "TrainingError: train: a process of the training died" in said


@pytest.mark.long
def test_memory_of_one_rank_halves_the_micro_batch_of_all(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch is stopped and started again; rank 1 has less memory than rank 0."""
    from tests.training.test_memory import write_rows

    write_rows(bench, tmp_path / "rows", 512, 16)
    settings: dict[str, Any] = {
        "global_batch_size": 16, "micro_batch_size": 8, "auto_micro_batch": True, "max_steps": 3,
        "save_steps": 1, "attention": "eager", "launch": {"num_processes": 2, "max_restarts": 3},
    }  # fmt: skip
    enough = small_job(bench / "causal", tmp_path / "rows", tmp_path / "a", "cpt", **settings)
    run_launched(enough, quiet)

    class ShortStarter(launching.Starter):
        def __init__(self, threads: int) -> None:
            self.threads = threads
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.training.short_rank", str(OWN)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip

    launching._kept.pop().stop()
    monkeypatch.setattr(launching, "Starter", ShortStarter)
    short = small_job(bench / "causal", tmp_path / "rows", tmp_path / "b", "cpt", **settings)
    told: list[str] = []
    facts = with_memory(short, lambda e: told.append(str(e.get("message", ""))), run_launched)
    assert any("8 rows at once; goes on with 4" in text for text in told)
    assert facts["micro_batch_size"] < 8
    assert losses(short) == pytest.approx(losses(enough), abs=1e-5)
    launching._kept.pop().stop()
