"""Starts groups of processes for one training after another, without importing anything twice.

    python -m pipeline.starter PARENT

One JSON line on standard input is one launch: ``job`` (a file), ``log`` (where what the
processes say on standard error goes) and the launch's shape. Its processes print on this one's
standard output; ``{"ended": CODE}`` follows when all have. On CPUs they are forked from here, where
torch and transformers are loaded already; torchrun's own agent
(``torch.distributed.launcher.api``) starts them, and starts them again when one dies.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.gpus import gpu_count
from pipeline.core.lifeline import die_with_parent


def main(parent: int) -> None:
    """Serves launches until standard input ends."""
    # torchrun asks nothing of the kernel: killed -9, what started it would leave it running.
    die_with_parent(parent)
    # Else the processes of a restart meet in the store of those before, and may find in it the
    # address of one that is dead.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    # A process that is forked from one in which CUDA was woken cannot use it, and an import may
    # wake it: with GPUs each process imports for itself.
    method = "spawn" if gpu_count() else "fork"
    if method == "fork":
        _load()
    for line in sys.stdin:
        order = json.loads(line)
        code = _launched(order, method)
        print(json.dumps({"ended": code}), flush=True)


def _load() -> None:
    """Imports what every training needs; nothing of it touches a GPU."""
    from importlib import import_module

    import transformers

    # Says at each import that an optional kernel is absent; nothing of ours uses it.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for name in ("torch.distributed.fsdp", "peft", "pipeline.worker", "pipeline.training.loop"):
        import_module(name)
    # transformers' names are loaded when they are first asked for.
    for name in ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoTokenizer", "get_scheduler"):
        getattr(transformers, name)


def _launched(order: Mapping[str, Any], method: str) -> int:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from pipeline.worker import entry

    with Path(order["log"]).open("w") as log:
        os.dup2(log.fileno(), 2)
    config = LaunchConfig(
        min_nodes=order["machines"],
        max_nodes=order["machines"],
        nproc_per_node=order["here"],
        max_restarts=order["max_restarts"],
        start_method=method,
        monitor_interval=0.1,
        run_id=order["run_id"],
        **order["meeting"],
    )
    try:
        elastic_launch(config, entry)(order["job"], os.getpid())
    except ChildFailedError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    main(int(sys.argv[1]))
