"""Tiny random models of several architectures, and labels that are easily confused."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY, STOP, PAD = 60, 1, 0
# `card` opens two others; the fourth shares nothing; the last is one token long.
ANSWERS = {
    "card": (5, STOP),
    "card_arrival": (5, 6, STOP),
    "card_arrival_late": (5, 6, 7, 8, STOP),
    "lost pin": (9, 10, STOP),
    "转账": (11, 12, 13, STOP),
    "转账 限额": (11, 12, 14, STOP),
    "fee": (15, STOP),
}
_SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96,
    "initializer_range": 0.4,
}  # fmt: skip


def model_of(name: str, attention: str | None = None) -> Any:
    """A random model, the same at every call."""
    torch.manual_seed(3)
    made: Any
    if name == "qwen3":
        made = Qwen3ForCausalLM(Qwen3Config(**_SHAPE, head_dim=8))
    elif name == "llama":
        made = LlamaForCausalLM(LlamaConfig(**_SHAPE))
    elif name == "mistral":
        made = MistralForCausalLM(MistralConfig(**_SHAPE, sliding_window=6))
    elif name == "gpt2":
        made = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCABULARY,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=96,
                bos_token_id=None,
                eos_token_id=None,
                initializer_range=0.4,
            )
        )
    elif name == "bloom":
        made = BloomForCausalLM(
            BloomConfig(
                vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.4
            )
        )
    else:
        made = MambaForCausalLM(
            MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4)
        )
    if attention is not None:
        made.set_attn_implementation(attention)
    return made.eval()


def prompts(number: int, longest: int = 30, seed: int = 0) -> list[dict[str, Any]]:
    """Rows to be answered, of many lengths."""
    rng = torch.Generator().manual_seed(seed)
    rows = []
    for index in range(number):
        length = int(torch.randint(1, longest, (1,), generator=rng))
        ids = torch.randint(2, VOCABULARY, (length,), generator=rng).tolist()
        rows.append({"example_id": f"e{index}", "prompt_ids": ids, "label": "card"})
    return rows


def alone(model: Any, prompt: list[int], answer: tuple[int, ...]) -> float:
    """log p(answer | prompt): one pair, one plain forward pass, in float64 from the logits on."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
    first = len(prompt) - 1
    return sum(float(logits[first + i, token]) for i, token in enumerate(answer))
