"""Several processes for one training: started, listened to, started again, never orphaned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.core import errors
from pipeline.core.launch import LaunchSettings, launch_settings
from pipeline.training.trainee import TrainJob

Progress = Callable[[Mapping[str, Any]], None]
_STOP_S = 10.0


def launch_command(job_file: Path, settings: LaunchSettings) -> list[str]:
    """The command that starts the processes: torchrun, whatever wraps the model.

    `accelerate launch --cpu` starts one process whatever it is asked for; torchrun does not.
    Of a file for several machines this starts the share of one: `machine_rank`, `main_process_ip`
    and `main_process_port` are accelerate's own keys.
    """
    here = settings.processes // settings.machines
    run = ["torch.distributed.run", "--nproc_per_node", str(here)]
    run += ["--max-restarts", str(settings.max_restarts)]
    run += [*_meeting(settings), "-m"]
    starter = [sys.executable, "-m", "pipeline.training.starter", str(os.getpid())]
    return [*starter, *run, "pipeline.worker", str(job_file)]


def _meeting(settings: LaunchSettings) -> list[str]:
    """How the machines find each other."""
    if settings.machines == 1:
        return ["--standalone"]
    keys = settings.settings
    return [
        "--nnodes", str(settings.machines),
        "--node-rank", str(keys.get("machine_rank") or 0),
        "--master-addr", str(keys.get("main_process_ip") or "127.0.0.1"),
        "--master-port", str(keys.get("main_process_port") or 29500),
    ]  # fmt: skip


def run_launched(job: TrainJob, progress: Progress) -> Mapping[str, Any]:
    """Trains in as many processes as the job asks for; the facts of the first.

    A process that dies is started again with the others, from the last checkpoint, up to
    ``launch.max_restarts`` times.

    Raises:
        GradusError: what a process reported, or that one ended without a word.
    """
    settings = launch_settings(job.options["launch"])
    job_file = Path(job.work) / "job.json"
    job_file.write_text(json.dumps(asdict(job)), encoding="utf-8")
    log_file = Path(job.work) / "launch.log"
    environment = {**os.environ, "OMP_NUM_THREADS": str(job.options.get("threads") or 1)}
    with (
        log_file.open("w") as log,
        subprocess.Popen(
            launch_command(job_file, settings),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        ) as process,
    ):
        try:
            facts = _followed(process, progress)
            code = process.wait()
        finally:
            _stop(process)
    if code != 0 or facts is None:
        raise errors.TrainingError(
            f"train: a process of the launch ended with code {code} "
            f"({_last_words(log_file)}); see {log_file}"
        )
    return facts


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    # The launcher passes it on to every process that it started.
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_words(log_file: Path) -> str:
    """The line of a log that says what went wrong: the last of an exception, else the last."""
    lines = [x.strip() for x in log_file.read_text(errors="replace").splitlines() if x.strip()]
    said = [x for x in lines if "Error" in x.partition(":")[0] and "torch.distributed" not in x]
    return (said or lines or ["no output"])[-1][:160]


def _followed(process: subprocess.Popen[str], progress: Progress) -> dict[str, Any] | None:
    """Passes the first process's progress on; its facts, or None where it ended without.

    Raises:
        GradusError: what a process reported.
    """
    assert process.stdout is not None
    facts: dict[str, Any] | None = None
    for line in process.stdout:
        event = _event(line)
        if "error" in event:
            found = getattr(errors, event["error"], errors.TrainingError)(event["text"])
            if isinstance(found, errors.OutOfMemory):
                found.rows = int(event.get("rows", 1))
            raise found
        facts = event.get("facts", facts)
        if "step" in event or "message" in event:
            progress(event)
    return facts


def _event(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
