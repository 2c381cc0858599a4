"""Work that every process of a training does at once, and that may fail on one of them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pipeline.core import errors
from pipeline.core.errors import TrainingError
from pipeline.core.store import disk_errors
from pipeline.training.parallel import Parallel


def together(group: Parallel, folder: Path, work: Callable[[], Any]) -> list[Any]:
    """What ``work`` gives on each process; where one fails all do, and none waits for it.

    Raises:
        StoreError: the disk of ``folder`` is full or cannot be written.
        TrainingError: another process failed.
    """
    told: dict[str, Any] = {}
    failed: Exception | None = None
    try:
        with saving(folder):
            told["found"] = work()
    except Exception as error:
        failed = error
        told = {"error": type(error).__name__, "text": str(error)}
    everyone = group.gathered(told)
    if failed is not None:
        raise failed
    for rank, one in enumerate(everyone):
        if "error" in one:
            known = getattr(errors, one["error"], None)
            if known is not None:
                raise known(one["text"])
            raise TrainingError(f"train: process {rank} could not save: {one['text']}")
    return [one["found"] for one in everyone]


@contextlib.contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Turns a full disk into one line, also where safetensors wraps what the disk said.

    Raises:
        StoreError: the disk of ``folder`` is full or cannot be written.
    """
    with disk_errors(folder):
        try:
            yield
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
