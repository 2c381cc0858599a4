"""The smallest loop that trains the same: forward, backward, clip, step, on tensors that are there.

python -m benchmarks.train_hand CASE.json OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.train_case import Case, read_case
from benchmarks.train_turns import Turns


def main() -> None:
    """Trains in turns, on the tensors that gradus trains on, made before the clock starts."""
    case, out = read_case(sys.argv[1]), Path(sys.argv[2])
    turns = Turns(case)
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(case.threads)
    updates = _tensors(case)
    base = AutoModelForCausalLM.from_pretrained(
        case.root, dtype=torch.float32, attn_implementation="sdpa"
    )
    torch.manual_seed(case.seed)
    settings = LoraConfig(r=case.lora_r, lora_alpha=2 * case.lora_r, target_modules="all-linear")
    model = get_peft_model(base, settings)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=case.learning_rate, weight_decay=0.0, fused=True)
    model.train()
    for micro_batches in updates:
        targets = sum(int(wanted.sum()) for _, _, wanted in micro_batches)
        for ids, mask, wanted in micro_batches:
            states = base.model(input_ids=ids, attention_mask=mask).last_hidden_state
            logits = base.lm_head(states[:, :-1][wanted])
            loss = cross_entropy(logits, ids[:, 1:][wanted], reduction="sum") / targets
            loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        turns.updated()
    model.save_pretrained(str(out))
    turns.say()


def _tensors(case: Case) -> list[list[tuple[object, ...]]]:
    """(input_ids, attention_mask, wanted) of each micro-batch of each update."""
    from pipeline.data.arrow import Split
    from pipeline.training.batches import BatchOrder, collate, shares

    rows = Split(Path(case.unpacked) / "train.arrow")
    order = BatchOrder(rows.lengths(), case.global_batch, case.seed)
    updates = []
    for step in range(case.steps):
        batch = collate([rows[index] for index in order.at(step)], 0)
        parts = shares(range(len(batch["input_ids"])), 0, 1, case.micro)
        made = []
        for part in parts:
            width = int(batch["attention_mask"][part].sum(dim=1).max())
            ids, mask, flags = (
                batch[name][part][:, :width].contiguous()
                for name in ("input_ids", "attention_mask", "supervised")
            )
            made.append((ids, mask, flags[:, 1:]))
        updates.append(made)
    return updates


if __name__ == "__main__":
    main()
