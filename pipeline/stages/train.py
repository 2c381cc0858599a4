"""Stage `train`: one model for one objective and one seed; an Adapter, or a full Model."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.context_length import require_room
from pipeline.core.energy import EnergyMeter
from pipeline.core.errors import OutOfMemory
from pipeline.core.launch import launch_settings
from pipeline.core.stage import Progress, StageContext
from pipeline.data.chat_tokens import chat_token_note
from pipeline.training.launching import run_launched
from pipeline.training.trainee import TrainJob


class Train:
    """Trains in this process, or in as many as the recipe launches."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root (Model), data (Dataset), parent (stacked Adapter, optional), init (Adapter
        to start from, optional; or a folder among the files).

        Raises:
            ModelError: the base has less room than its recipe serves.
        """
        require_room(inputs["root"].path, context.options.get("serve_max_model_len"))
        note = chat_token_note(inputs["root"].path, config)
        if note is not None:
            context.progress({"message": note})
        parent, init = inputs.get("parent"), inputs.get("init")
        start = init.path if init is not None else context.files.get("init")
        job = TrainJob(
            root=str(inputs["root"].path),
            parent=str(parent.path) if parent else None,
            data=str(inputs["data"].path),
            out=str(context.out),
            work=str(context.work),
            config=config,
            options=context.options,
            init=str(start) if start is not None else None,
        )
        with EnergyMeter() as meter:
            facts = with_memory(job, context.progress, trainer(job))
        return facts if meter.total is None else {**facts, "energy_j": round(meter.total, 1)}


def trainer(job: TrainJob) -> Callable[[TrainJob, Progress], Mapping[str, Any]]:
    """What trains the job: this process where it needs one, else a launch."""
    settings = launch_settings(job.options["launch"])
    if settings.wrapper != "single":
        return run_launched
    from pipeline.training.loop import train

    return train


def with_memory(
    job: TrainJob, progress: Progress, run: Callable[[TrainJob, Progress], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Trains; with `auto_micro_batch`, halves the micro-batch as often as memory is short.

    The global batch stays, so the updates are the same; a halved training goes on from its
    last checkpoint.

    Raises:
        OutOfMemory: not even one row fits, or halving was not asked for.
    """
    while True:
        try:
            return run(job, progress)
        except OutOfMemory as error:
            if not job.options.get("auto_micro_batch") or error.rows <= 1:
                raise
            smaller = error.rows // 2
            progress({"message": f"out of memory with {error.rows} rows at once; goes on with "
                                 f"{smaller}, the global batch stays"})  # fmt: skip
        # The failed pass's tensors hang on its traceback, in a circle.
        gc.collect()
        job = replace(job, options={**job.options, "micro_batch_size": smaller, "resume": True})
