"""gradus as a contestant: its own training loop, as a recipe runs it.

python -m benchmarks.train_own CASE.json OUT packed|unpacked
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.train_case import Case, read_case
from benchmarks.train_turns import Turns


def own_job(case: Case, out: Path, *, packed: bool) -> Any:
    """The training as the plan would hand it to the stage."""
    from pipeline.core.schema_train import Train
    from pipeline.train_plan import train_config, train_options
    from pipeline.training.trainee import TrainJob

    section = Train(
        objective=("sft",),
        lora_r=case.lora_r,
        learning_rate=case.learning_rate,
        lr_scheduler_type="constant",
        max_steps=case.steps,
        global_batch_size=case.blocks_at_once if packed else case.global_batch,
        # Packed, how many blocks are taken at once is left to the loop.
        micro_batch_size=None if packed else case.micro,
        packing=packed,
        max_length=case.block,
        precision="fp32",
    )
    options = {**train_options(section), "launch": section.launch.model_dump()}
    config = {**train_config(section, "sft"), "seed": case.seed}
    work = out.with_name(out.name + "-work")
    for folder in (out, work):
        folder.mkdir(parents=True)
    data = case.packed if packed else case.unpacked
    return TrainJob(case.root, None, data, str(out), str(work), config, options)


def main() -> None:
    """Trains in turns."""
    case, out, packed = read_case(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "packed"
    turns = Turns(case)
    import torch

    from pipeline.training.loop import train

    torch.set_num_threads(case.threads)

    def progress(event: Mapping[str, Any]) -> None:
        if "loss" in event:
            turns.updated()
        elif "message" in event:
            print(event["message"], file=sys.stderr)

    facts = train(own_job(case, out, packed=packed), progress)
    turns.say(
        micro_batch=facts["micro_batch_size"], packing=facts["packing"], updates=facts["updates"]
    )


if __name__ == "__main__":
    main()
