"""The body of a launch: one process of a training.

Rank 0 prints one JSON object a line: progress, and last {"facts": ...}; any rank {"error": ...}.
``torchrun --nproc_per_node 2 -m pipeline.worker JOB.json`` runs a job by hand.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import GradusError, OutOfMemory
from pipeline.core.lifeline import die_with_parent

_DEFECTS = (TypeError, ValueError, LookupError, AttributeError, AssertionError, ImportError)


def entry(job_file: str, starter: int) -> None:
    """What a forked process runs: it ends with 0, or 1 after an error line."""
    # A starter that is killed leaves its processes; these go with it.
    die_with_parent(starter)
    # Inherited from torchrun's agent is a handler that Python runs: stuck in an exchange with one
    # that died, this process would not hear it, and every restart would wait for half a minute.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    code = main(job_file)
    if code:
        sys.exit(code)


def _told(event: Mapping[str, Any]) -> None:
    """One line in one write: other processes write to the same pipe."""
    os.write(1, (json.dumps(event) + "\n").encode())


def main(job_file: str) -> int:
    """Runs the job; exit code 0, or 1 with an error line."""
    import torch

    from pipeline.training.loop import train
    from pipeline.training.trainee import TrainJob

    tree = json.loads(Path(job_file).read_text(encoding="utf-8"))
    if tree["options"].get("threads"):
        torch.set_num_threads(tree["options"]["threads"])
    first = int(os.environ.get("RANK", "0")) == 0

    def say(event: Mapping[str, Any]) -> None:
        if first:
            _told(dict(event))

    try:
        facts = train(TrainJob(**tree), say)
    except GradusError as error:
        told = {"error": type(error).__name__, "text": str(error)}
        if isinstance(error, OutOfMemory):
            told["rows"] = str(error.rows)
        _told(told)
        return 1
    except _DEFECTS as error:
        # The same again at every restart: said once instead. What a process that lost the others
        # meets is a RuntimeError.
        text = f"{type(error).__name__}: {error}"
        _told({"error": "TrainingError", "text": f"train: a defect: {text}"})
        traceback.print_exc()
        return 1
    say({"facts": facts})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
