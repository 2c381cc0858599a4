"""Starts a launcher that goes when the training's process goes.

    python -m pipeline.training.starter PARENT torch.distributed.run --nproc_per_node 2 ...

torchrun asks nothing of the kernel: killed -9, what started it would leave it running.
"""

from __future__ import annotations

import os
import runpy
import sys

from pipeline.core.lifeline import die_with_parent

LAUNCHER = "GRADUS_LAUNCHER"


def main() -> None:
    """Becomes the launcher that the arguments name."""
    die_with_parent(int(sys.argv[1]))
    module = sys.argv[2]
    os.environ[LAUNCHER] = str(os.getpid())
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
