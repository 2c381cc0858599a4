"""The peer of `prepare`: TRL's own SFT preparation. Runs in the peer's environment.

python trl_prepare.py ROWS.jsonl TOKENIZER MAX_LENGTH MODE -> one JSON line: seconds, blocks.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time


def main() -> None:
    """Prepares (tokenises, masks, packs) with dataset_num_proc=2 and prints the seconds."""
    rows, folder, max_length, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    from datasets import load_dataset
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=1, num_key_value_heads=1, head_dim=32,
        )
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        dataset = load_dataset("json", data_files=rows, split="train", cache_dir=cache)
        if mode == "prompt_completion":
            # TRL's other way to mask the prompt: a column each for prompt and answer.
            dataset = dataset.map(
                lambda row: {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]},
                remove_columns=["messages"],
                num_proc=2,
            )
        args = SFTConfig(
            output_dir=cache, max_length=max_length, packing=True, dataset_num_proc=2,
            assistant_only_loss=mode == "assistant_only", report_to=[], use_cpu=True, bf16=False,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model, args=args, train_dataset=dataset, processing_class=tokenizer
        )
        seconds = time.perf_counter() - began
        blocks = trainer.train_dataset
        told = {"seconds": seconds, "blocks": len(blocks), "columns": blocks.column_names}
        print(json.dumps(told))


if __name__ == "__main__":
    main()
