"""A starter whose second process has less memory than its first."""

from __future__ import annotations

import os
import sys

from pipeline import starter, worker
from tests.training.forked import limit_memory

_EXTRA_BYTES = 120 << 20
_entry = worker.entry


def entry(job_file: str, parent: int) -> None:
    """What a forked process runs."""
    if os.environ["RANK"] == "1":
        limit_memory(_EXTRA_BYTES)
    _entry(job_file, parent)


if __name__ == "__main__":
    worker.entry = entry
    starter.main(int(sys.argv[1]))
