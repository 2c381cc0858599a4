"""Random models and adapters in real shapes, written as the engine reads them; no hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.bundle import Bundle

SMALL: dict[str, Any] = {
    "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 8192,
    "tie_word_embeddings": True,
}  # fmt: skip
# Qwen/Qwen3-0.6B's config.json.
QWEN3_06B: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936,
    "tie_word_embeddings": True,
}  # fmt: skip
_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_TOKENIZER = 2048


def write_base(folder: Path, shape: dict[str, Any], max_length: int) -> None:
    """A random model of a shape in bfloat16, with a tokenizer and a chat template."""
    import torch
    from transformers import Qwen3ForCausalLM

    from pipeline.stages.scratch import train_tokenizer

    tokenizer = train_tokenizer(_texts(), min(_TOKENIZER, shape["vocab_size"]))
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(7)
    before = torch.get_default_dtype()
    # Twice the bytes would be written and read for nothing.
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = Qwen3ForCausalLM(_config(shape, max_length))
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        # Ids that the tokenizer has not: their logits are 0, which never is the largest.
        model.get_input_embeddings().weight[len(tokenizer) :] = 0
    model.save_pretrained(str(folder))


def write_adapter(folder: Path, shape: dict[str, Any], max_length: int, rank: int) -> None:
    """A random LoRA adapter over every linear layer, in bfloat16."""
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file
    from transformers import Qwen3ForCausalLM

    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=_TARGETS, task_type="CAUSAL_LM"
    )  # fmt: skip
    with torch.device("meta"):
        shapes = get_peft_model_state_dict(
            get_peft_model(Qwen3ForCausalLM(_config(shape, max_length)), config)
        )
    generator = torch.Generator().manual_seed(rank)
    weights = {
        name: (0.02 * torch.randn(meta.shape, generator=generator)).to(torch.bfloat16)
        for name, meta in shapes.items()
    }
    config.save_pretrained(str(folder))
    save_file(weights, folder / "adapter_model.safetensors")


def bundle_of(base: Path, ranks: dict[str, int], adapters: Path, max_length: int) -> Bundle:
    """What an engine is started from: ``demo-l0``, and adapters by name, each in its folder."""
    from pipeline.core.controls import Controls
    from serve.bundle import Bundle, BundleAdapter, BundleBase

    return Bundle(
        name="benchmark",
        root=adapters,
        base=BundleBase("demo-l0", "L0", base, "c0ffee11"),
        adapters=tuple(
            BundleAdapter(name, "L1" if name.endswith("l1") else "L2", adapters / name, rank, name)
            for name, rank in ranks.items()
        ),
        max_model_len=max_length,
        system=None,
        chat_template_kwargs={},
        controls=Controls(),
        stop_token_ids=(),
        gates=(),
        ungated=True,
        dtype="bfloat16",
    )


def _config(shape: dict[str, Any], max_length: int) -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(**shape, max_position_embeddings=max_length, eos_token_id=2, pad_token_id=0)


def _texts() -> list[str]:
    """Made words enough for the tokenizer's merges."""
    import random

    rng = random.Random(7)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(4000)]
    return [" ".join(rng.choices(words, k=12)) for _ in range(4000)]
