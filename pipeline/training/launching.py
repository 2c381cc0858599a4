"""Several processes for one training: started, listened to, started again, never orphaned."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.core import errors
from pipeline.core.launch import LaunchSettings, launch_settings
from pipeline.training.trainee import TrainJob

Progress = Callable[[Mapping[str, Any]], None]
_STOP_S = 10.0


class Starter:
    """A process that has torch loaded and forks the processes of each launch.

    It is started at the first launch of this process and kept for the next ones: the second
    stage of a chain imports nothing. It goes when this process goes.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        command = [sys.executable, "-m", "pipeline.starter", str(os.getpid())]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,
        )

    def order(self, order: Mapping[str, Any]) -> None:
        """Asks for one launch.

        Raises:
            TrainingError: the starter has died.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise errors.TrainingError(
                f"train: what starts the processes has died (exit code {self.process.poll()}); "
                "run again"
            ) from None

    def stop(self) -> None:
        """Ends it, and with it every process that it started."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


_kept: list[Starter] = []


def _starter(threads: int) -> Starter:
    if _kept and (_kept[0].process.poll() is not None or _kept[0].threads != threads):
        _kept.pop().stop()
    if not _kept:
        _kept.append(Starter(threads))
        atexit.register(_kept[0].stop)
    return _kept[0]


def launch_order(job_file: Path, log_file: Path, settings: LaunchSettings) -> dict[str, Any]:
    """What the starter is asked for.

    `accelerate launch --cpu` starts one process whatever it is asked for; torchrun's agent does
    not. Of a file for several machines this starts the share of one: `machine_rank`,
    `main_process_ip` and `main_process_port` are accelerate's own keys.
    """
    return {
        "job": str(job_file),
        "log": str(log_file),
        "machines": settings.machines,
        "here": settings.processes // settings.machines,
        "max_restarts": settings.max_restarts,
        "run_id": secrets.token_hex(8) if settings.machines == 1 else "gradus",
        "meeting": _meeting(settings),
    }


def _meeting(settings: LaunchSettings) -> dict[str, Any]:
    """How the machines find each other, in torchrun's words."""
    if settings.machines == 1:
        return {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    keys = settings.settings
    host = keys.get("main_process_ip") or "127.0.0.1"
    return {
        "rdzv_backend": "static",
        "rdzv_endpoint": f"{host}:{keys.get('main_process_port') or 29500}",
        "rdzv_configs": {"rank": int(keys.get("machine_rank") or 0), "timeout": 900},
    }


def run_launched(job: TrainJob, progress: Progress) -> Mapping[str, Any]:
    """Trains in as many processes as the job asks for; the facts of the first.

    A process that dies is started again with the others, from the last checkpoint, up to
    ``launch.max_restarts`` times.

    Raises:
        GradusError: what a process reported, or that one ended without a word.
    """
    settings = launch_settings(job.options["launch"])
    # The cores of this training are shared by its processes here.
    here = settings.processes // settings.machines
    threads = max(1, int(job.options.get("threads") or 1) // here)
    job = replace(job, options={**job.options, "threads": threads})
    job_file = Path(job.work) / "job.json"
    job_file.write_text(json.dumps(asdict(job)), encoding="utf-8")
    log_file = Path(job.work) / "launch.log"
    starter = _starter(threads)
    ended = False
    try:
        starter.order(launch_order(job_file, log_file, settings))
        facts, code = _followed(starter.process, progress)
        ended = code is not None
    finally:
        if not ended:
            # Its processes may be in the middle of anything.
            starter.stop()
    if code != 0 or facts is None:
        how = "the launch was killed" if code is None else f"one ended with code {code}"
        raise errors.TrainingError(
            f"train: a process of the training died: {how} ({_last_words(log_file)}); "
            f"see {log_file}"
        )
    return facts


def _last_words(log_file: Path) -> str:
    """The line of a log that says what went wrong: the last of an exception, else the last."""
    text = log_file.read_text(errors="replace") if log_file.is_file() else ""
    lines = [x.strip() for x in text.splitlines() if x.strip()]
    said = [x for x in lines if "Error" in x.partition(":")[0] and "torch.distributed" not in x]
    return (said or lines or ["no output"])[-1][:160]


def _followed(
    process: subprocess.Popen[str], progress: Progress
) -> tuple[dict[str, Any] | None, int | None]:
    """Passes the first process's progress on; its facts and the launch's exit code, if any.

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
        if "ended" in event:
            return facts, int(event["ended"])
    return facts, None


def _event(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
