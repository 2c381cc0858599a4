"""Peers: transformers' Trainer with padded batches, and TRL's SFTTrainer with its packing.

python -m benchmarks.train_trainer CASE.json OUT trainer
python -m benchmarks.train_trainer CASE.json OUT trl BLOCKS_AT_ONCE
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks.train_case import Case, read_case
from benchmarks.train_turns import Turns


def main() -> None:
    """Trains in turns."""
    case, out, kind = read_case(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    turns = Turns(case)
    import torch

    torch.set_num_threads(case.threads)
    torch.manual_seed(case.seed)
    rows = [json.loads(line) for line in Path(case.rows).read_text().splitlines()]
    if kind == "trainer":
        trainer, told = _trainer(case, out, rows), {}
    else:
        trainer, told = _trl(case, out, rows, int(sys.argv[4]))
    trainer.add_callback(_callback(turns))
    trainer.train()
    trainer.model.save_pretrained(str(out))
    turns.say(updates=trainer.state.global_step, **told)


def _callback(turns: Turns) -> Any:
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            turns.updated()

    return Callback()


def _arguments(case: Case, out: Path, at_once: int, accumulation: int) -> dict[str, Any]:
    return {
        "output_dir": str(out),
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": accumulation,
        "max_steps": case.steps,
        "learning_rate": case.learning_rate,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "seed": case.seed,
        "use_cpu": True,
        "bf16": False,
        # SFTTrainer's default is to compute every layer again in the backward pass.
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _lora(case: Case) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=case.lora_r,
        lora_alpha=2 * case.lora_r,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _model(case: Case) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(case.root, dtype=torch.float32)


def _trainer(case: Case, out: Path, rows: list[dict[str, Any]]) -> Any:
    from peft import get_peft_model
    from transformers import (
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(case.root)
    for row in rows:
        row["attention_mask"] = [1] * len(row["input_ids"])
    return Trainer(
        model=get_peft_model(_model(case), _lora(case)),
        args=TrainingArguments(
            **_arguments(case, out, case.micro, case.global_batch // case.micro)
        ),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
    )


def _trl(
    case: Case, out: Path, rows: list[dict[str, Any]], at_once: int
) -> tuple[Any, dict[str, Any]]:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    from trl import __version__ as version

    accumulation = math.ceil(case.blocks_at_once / at_once)
    trainer = SFTTrainer(
        model=_model(case),
        args=SFTConfig(
            **_arguments(case, out, at_once, accumulation),
            max_length=case.block,
            packing=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(case.root),
        peft_config=_lora(case),
    )
    model = trainer.model.get_base_model()
    told = {
        "version": version,
        "blocks": len(trainer.train_dataset),
        "attention": model.config._attn_implementation,
    }
    return trainer, told


if __name__ == "__main__":
    main()
