"""What the GPU benchmark trains: shapes, blocks of rows, settings; and the card's own rate."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

# https://huggingface.co/Qwen/Qwen3-8B and Qwen3-0.6B, config.json.
QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151_936,
    "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "rms_norm_eps": 1e-6, "rope_theta": 1_000_000, "max_position_embeddings": 40_960,
    "tie_word_embeddings": False, "attention_dropout": 0.0, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
QWEN3_06B = {
    **QWEN3_8B, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16, "tie_word_embeddings": True,
}  # fmt: skip
TINY = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip


@dataclass(frozen=True)
class GpuCase:
    """One training.

    Attributes:
        method: ``lora``, ``qlora`` or ``full``.
        config: of the base.
        blocks: of an update; ``micro`` of them at once.
        length: tokens of a block.
        updates: that are timed, after ``warm`` that are not.
        folder: root (config and tokenizer), data, out and work lie there.
        tokens_per_update: a mean over all blocks; each side takes them in an order of its own.
        flops_per_token: what is needed, forward and backward.
    """

    method: str
    config: dict[str, Any]
    blocks: int
    micro: int
    length: int
    updates: int
    warm: int
    device: str
    compiled: bool
    folder: str
    tokens_per_update: float = 0.0
    flops_per_token: float = 0.0

    def section(self) -> Any:
        """The recipe's `train`."""
        from pipeline.core.schema_train import Train

        return Train(
            objective=("sft",),
            method=self.method,  # type: ignore[arg-type]
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            max_steps=self.updates + self.warm + 1,
            global_batch_size=self.blocks,
            micro_batch_size=self.micro,
            packing=True,
            max_length=self.length,
            precision="bf16",
            compile=self.compiled,
            activation_memory_budget=BUDGETS[self.method] if self.compiled else 1.0,
            save_steps=10_000,
        )

    def settings(self) -> dict[str, Any]:
        """What a training of it is configured with."""
        from pipeline.train_plan import train_config

        return {**train_config(self.section(), "sft"), "seed": 1}

    @property
    def root(self) -> Path:
        """The base without weights."""
        return Path(self.folder) / "root"

    @property
    def data(self) -> Path:
        """The Dataset."""
        return Path(self.folder) / "data"


# By method: of what a compiled layer would keep for its backward pass.
BUDGETS = {"lora": 0.2, "qlora": 0.5, "full": 0.5}
# method, shape, blocks of an update, of them at once
CASES: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "lora": ("lora", QWEN3_8B, 4, 1),
    "qlora": ("qlora", QWEN3_8B, 4, 1),
    "full": ("full", QWEN3_06B, 8, 4),
}


def read_case(path: str) -> GpuCase:
    """The case that ``write_case`` wrote."""
    return GpuCase(**json.loads(Path(path).read_text(encoding="utf-8")))


def write_case(place: Path, name: str, *, device: str, tiny: bool, compiled: bool) -> Path:
    """Writes the base's folder without weights, the rows and the settings; the case's file."""
    from pipeline.data.arrow import write_split
    from pipeline.data.packing import pack_stream

    method, shape, blocks, micro = CASES[name]
    config = {**shape, **TINY} if tiny else dict(shape)
    length = 128 if tiny else 2048
    case = GpuCase(
        method, config, blocks, micro, length, updates=3 if tiny else 6, warm=1 if tiny else 3,
        device=device, compiled=compiled, folder=str(place),
    )  # fmt: skip
    case.root.mkdir(parents=True)
    case.data.mkdir()
    (case.root / "config.json").write_text(json.dumps(config))
    _write_tokenizer(case.root, config["vocab_size"])
    wanted = (case.updates + case.warm) * blocks
    rows = _rows(wanted * length, length, config["vocab_size"])
    # Fuller than an average block would be, never emptier: the last are left out.
    write_split(case.data / "train.arrow", list(pack_stream(rows, length))[:wanted])
    (case.data / "labels.json").write_text("[]")
    path = place / "case.json"
    path.write_text(json.dumps(asdict(_counted(case))))
    return path


def _counted(case: GpuCase) -> GpuCase:
    from pipeline.data.arrow import Split
    from pipeline.modeling.flops import training_flops
    from pipeline.modeling.outline import outline

    split = Split(case.data / "train.arrow")
    lengths = split.segment_lengths()
    targets = sum(sum(row["supervised"]) for row in split)
    settings = case.settings()
    if case.method == "qlora":
        # A weight costs the same operations in four bits.
        settings["method"] = "lora"

    def needed(layers: int) -> float:
        config = {**case.config, "num_hidden_layers": layers}
        # Products do not depend on the length that is followed.
        made = outline(config, settings, length=64, bf16_weights=True)
        return training_flops(made, lengths.tolist(), targets).needed

    # Every layer costs the same: two shapes are followed, and not all of 36 layers.
    one, two = needed(1), needed(2)
    flops = one + (case.config["num_hidden_layers"] - 1) * (two - one)
    tokens = int(lengths.sum())
    return replace(
        case,
        tokens_per_update=tokens / (case.updates + case.warm),
        flops_per_token=flops / tokens,
    )


def planned_bytes(case: GpuCase) -> int:
    """What `gradus plan` says of the case's memory, without CUDA's own."""
    from pipeline.core.launch import launch_settings
    from pipeline.price_estimate import estimate
    from pipeline.price_rows import rows_in
    from pipeline.price_terms import Case, Terms
    from pipeline.train_plan import train_options

    section = case.section()
    launch = launch_settings(section.launch.model_dump())
    rows = rows_in(case.data, "sft")
    priced = Case(case.config, case.settings(), train_options(section), launch, rows)
    account = estimate(priced, Terms.of("h100", None, 0.4, None))["memory_bytes"]
    return int(account["peak"])


def _rows(tokens: int, longest: int, vocabulary: int) -> list[dict[str, Any]]:
    """Conversations of seeded ids: a fifth of each is the question; half again as many as asked."""
    rng, rows, made = np.random.default_rng(1), [], 0
    while made < 1.5 * tokens:
        size = int(np.clip(rng.lognormal(5.6, 0.8) * longest / 2048, 8, longest))
        asked = max(1, size // 5)
        rows.append(
            {
                "example_id": f"row-{len(rows)}",
                "input_ids": rng.integers(8, vocabulary, size).astype(np.int32),
                "supervised": np.r_[np.zeros(asked), np.ones(size - asked)].astype(np.int8),
            }
        )
        made += size
    return rows


def _write_tokenizer(folder: Path, vocabulary: int) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{index}": index for index in range(vocabulary)}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w2")),  # noqa: S106
        pad_token="w0",  # noqa: S106
        eos_token="w1",  # noqa: S106
    ).save_pretrained(str(folder))


def matrix_rate(device: str, size: int) -> None:
    """Prints the card, the packages and the rate of a bf16 product of two [size, size]."""
    import importlib.metadata

    import torch

    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in "ab")
    rates = []
    for _ in range(6):
        synchronise(device)
        began = time.perf_counter()
        for _ in range(10):
            left @ right
        synchronise(device)
        rates.append(10 * 2.0 * size**3 / (time.perf_counter() - began))
    versions = {}
    for name in ("transformers", "peft", "accelerate", "bitsandbytes", "triton"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    told = {"card": card, "torch": torch.__version__, "packages": versions, "rate": max(rates[1:])}
    print(json.dumps(told))


def synchronise(device: str) -> None:
    """Waits until the card has done what it was told."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
