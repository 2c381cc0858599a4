"""Stage `train`: one model for one objective and one seed; an Adapter, or a full Model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.core import errors
from pipeline.core.artifact import Artifact
from pipeline.core.stage import Progress, StageContext
from pipeline.training.trainee import TrainJob


class Train:
    """Trains in this process, or in as many as the recipe launches."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root (Model), data (Dataset), parent (stacked Adapter, optional)."""
        parent = inputs.get("parent")
        job = TrainJob(
            root=str(inputs["root"].path),
            parent=str(parent.path) if parent else None,
            data=str(inputs["data"].path),
            out=str(context.out),
            work=str(context.work),
            config=config,
            options=context.options,
        )
        if context.options["launch"]["num_processes"] == 1:
            from pipeline.training.loop import train

            return train(job, context.progress)
        return _launch(job, context.progress)


def launch_command(job: TrainJob, job_file: Path) -> list[str]:
    """The command that starts every process: accelerate with a configuration, else torchrun.

    `accelerate launch --cpu` starts one process whatever it is asked for; torchrun does not.
    """
    launch = job.options["launch"]
    count = str(launch["num_processes"])
    if launch["config"] is None:
        run = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count]
    else:
        run = ["-m", "accelerate.commands.launch", "--config_file", launch["config"]]
        run += ["--num_processes", count]
    return [sys.executable, *run, "-m", "pipeline.worker", str(job_file)]


def _launch(job: TrainJob, progress: Progress) -> Mapping[str, Any]:
    job_file = Path(job.work) / "job.json"
    job_file.write_text(json.dumps(asdict(job)), encoding="utf-8")
    log_file = Path(job.work) / "launch.log"
    environment = {**os.environ, "OMP_NUM_THREADS": str(job.options.get("threads") or 1)}
    with (
        log_file.open("w") as log,
        subprocess.Popen(
            launch_command(job, job_file),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        ) as process,
    ):
        facts = _followed(process, progress)
        code = process.wait()
    if code != 0 or facts is None:
        tail = log_file.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise errors.TrainingError(
            f"train: a process of the launch ended with code {code} ({tail[0][:160]}); "
            f"see {log_file}"
        )
    return facts


def _followed(process: subprocess.Popen[str], progress: Progress) -> dict[str, Any] | None:
    """Passes rank 0's progress on; its facts, or None where it ended without."""
    assert process.stdout is not None
    facts: dict[str, Any] | None = None
    for line in process.stdout:
        event = _event(line)
        if "error" in event:
            process.terminate()
            raise getattr(errors, event["error"], errors.TrainingError)(event["text"])
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
