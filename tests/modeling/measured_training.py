"""A real training in a process of its own; prints what its memory grew by, as JSON.

Run as ``python -m tests.modeling.measured_training SPEC`` with a JSON object: ``config`` (of the
base), ``settings`` (of `train`), ``length``, ``rows``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any


class Peak:
    """The largest resident memory since it began: sampled each 2 ms."""

    def __init__(self) -> None:
        self.bytes = resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.bytes = max(self.bytes, resident())

    def stop(self) -> int:
        """The peak in bytes."""
        self._done.set()
        self._thread.join()
        return self.bytes


def resident() -> int:
    """Bytes that this process holds: weights may lie in their mapped file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def main(spec: dict[str, Any]) -> dict[str, Any]:
    import random

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from pipeline.core.schema import Train
    from pipeline.data.arrow import write_split
    from pipeline.stages.scratch import train_tokenizer
    from pipeline.train_plan import train_config, train_options
    from pipeline.training.loop import Training
    from pipeline.training.trainee import TrainJob

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("root", "data", "out", "work"):
            (folder / part).mkdir()
        tree = dict(spec["config"])
        kind = tree.pop("model_type")
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **tree))
        model.save_pretrained(str(folder / "root"))
        del model
        train_tokenizer(["the quick brown fox"], 300).save_pretrained(str(folder / "root"))
        rng = random.Random(0)
        length = spec["length"]
        rows = [
            {"example_id": str(i), "text": "", "label": None,
             "input_ids": [rng.randrange(300) for _ in range(length)],
             "supervised": [1] * length}
            for i in range(spec["rows"])
        ]  # fmt: skip
        write_split(folder / "data" / "train.arrow", rows)
        (folder / "data" / "labels.json").write_text("[]")
        section = Train.model_validate({"objective": "sft", "max_steps": 2, **spec["settings"]})
        options = {**train_options(section), "launch": section.launch.model_dump()}
        config = {**train_config(section, "sft"), "seed": 1, "loss_weighting": "token"}
        job = TrainJob(
            str(folder / "root"), None, str(folder / "data"), str(folder / "out"),
            str(folder / "work"), config, options,
        )  # fmt: skip
        _warm()
        before = resident()
        training = Training(job, lambda _event: None)
        built = resident()
        # As the loop does before its first update: layers are not run again in evaluation mode.
        training.trainee.module.train()
        watch, began = Peak(), time.process_time()
        for step in range(2):
            training._update(step)
            training.state.step += 1
        return {"before": before, "built": built - before, "peak": watch.stop() - before,
                "seconds": time.process_time() - began}  # fmt: skip


def _warm() -> None:
    """Kernels, threads and pools that any training brings, and no size decides."""
    import accelerate  # noqa: F401
    import peft  # noqa: F401
    import torch

    layer = torch.nn.Linear(64, 64)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    for kind in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
            layer(torch.randn(64, 64)).sum().backward()
        optimizer.step()


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
