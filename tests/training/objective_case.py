"""Tiny bodies and rows of every objective, and a global batch cut up as the loop cuts it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForMaskedLM, Qwen3Config, Qwen3ForCausalLM

from pipeline.data.arrow import write_split
from pipeline.training.batches import shares
from pipeline.training.modules import class_weights, module_for
from pipeline.training.targets import TOKENWISE, batch_of, target_count
from pipeline.training.trainee import Trainee

VOCABULARY, HIDDEN = 64, 32
LABELS = ("a", "b", "c")
TAGS = ("O", "B-x", "I-x")
LENGTHS = (9, 5, 12, 4, 7, 6, 10)
HEADED = ("classify", "hybrid", "tag", "regress")
CONFIG = {
    "seed": 1, "head": {"pooling": "last", "dropout": 0.0}, "dpo_beta": 0.3,
    "hybrid": {"generative": 0.7, "head": 1.9}, "mlm_probability": 0.3, "loss_weighting": "token",
}  # fmt: skip


class Tokenizer:
    """What a batch asks of a tokenizer."""

    pad_token_id = 0
    mask_token_id = 2
    all_special_ids = (0, 1, 2)

    def __len__(self) -> int:
        return VOCABULARY


def qwen(*, lora: bool = False, tied: bool = True) -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=48, tie_word_embeddings=tied,
        pad_token_id=0,
    )  # fmt: skip
    return with_lora(Qwen3ForCausalLM(config)) if lora else Qwen3ForCausalLM(config)


def bert() -> Any:
    torch.manual_seed(0)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=48, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip


def with_lora(model: Any, **settings: Any) -> Any:
    """A LoRA whose update is not zero."""
    body = get_peft_model(model, LoraConfig(**{"r": 4, "target_modules": "all-linear", **settings}))
    with torch.no_grad():
        for parameter in body.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    return body


def rows() -> list[dict[str, Any]]:
    """Rows with what any objective needs."""
    generator = torch.Generator().manual_seed(1)

    def ids(length: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()

    made = []
    for index, length in enumerate(LENGTHS):
        asked = 2 + index % 2
        rejected = [3 + index % 4] * asked + ids(3 + index)
        made.append(
            {"example_id": f"r{index}", "text": "", "label": LABELS[index % 3],
             "input_ids": rejected[:asked] + ids(length - asked), "prompt": asked,
             "supervised": [int(place >= asked) for place in range(length)],
             "labels": sorted(LABELS[: index % 3 + 1])[index % 2 :],
             "value": 100.0 + 7 * index**2,
             "tags": [-100, *(int(t) % 3 for t in ids(length - 1))],
             "rejected_ids": rejected,
             "rejected_supervised": [int(place >= asked) for place in range(len(rejected))],
             "features": [float(index), 1e6 + index % 3], "reference": [-3.0 - index, -2.0]}
        )  # fmt: skip
    return made


def trainee_of(
    objective: str,
    body: Any,
    folder: Path,
    *,
    several: bool = False,
    features: bool = False,
    **settings: Any,
) -> tuple[Trainee, dict[str, Any]]:
    """(what is trained, its settings) over a Dataset of ``rows()`` in ``folder``."""
    config = {**CONFIG, "objective": objective, **settings}
    labels = TAGS if objective == "tag" else LABELS
    write_split(folder / "train.arrow", rows())
    (folder / "render.json").write_text(json.dumps({"multi_label": several}))
    if features:
        specs = [{"name": "one", "column": "one"}, {"name": "two", "pattern": "x"}]
        (folder / "features.json").write_text(json.dumps(specs))
    module = module_for(objective, body, folder, config, labels)
    weights = class_weights(folder, labels) if objective in {"classify", "hybrid"} else None
    return Trainee(module, body, Tokenizer(), labels, weights), config


def batch_for(
    trainee: Trainee, config: Mapping[str, Any], chosen: Sequence[int] | None = None
) -> dict[str, torch.Tensor]:
    """The global batch of those rows, of all by default."""
    made = rows()
    return batch_of(
        made if chosen is None else [made[index] for index in chosen], trainee, config, step=3
    )


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Of every parameter that has one; they are cleared."""
    found = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    return found


def in_parts(
    trainee: Trainee, batch: Mapping[str, torch.Tensor], micro: int, world: int = 1
) -> tuple[float, dict[str, torch.Tensor]]:
    """(loss, gradients) of a global batch whose parts are added up, trimmed as the loop does."""
    total, count = 0.0, target_count(trainee.module, batch)
    size = len(batch["input_ids"])
    for part in [p for rank in range(world) for p in shares(range(size), rank, world, micro) if p]:
        width = int(batch["attention_mask"][part].sum(dim=-1).max())
        loss, _ = trainee.module(
            {n: t[part][..., :width] if n in TOKENWISE else t[part] for n, t in batch.items()}
        )
        (loss / count).backward()
        total += float(loss.detach())
    return total / count, gradients(trainee.module)
