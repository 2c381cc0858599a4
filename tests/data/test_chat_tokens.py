"""Chat tokens that were trained, and ones that never were, in models really trained here."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pipeline.data.chat_tokens import chat_token_note, untrained_chat_tokens
from pipeline.stages.scratch import CHAT_TEMPLATE

WORDS = ["red", "blue", "green", "ship", "dock", "crane", "rope", "sail", "tide", "wind"]
WORDS += [f"{a}{b}" for a in WORDS[:6] for b in WORDS[3:]]
START, END = "<|im_start|>", "<|im_end|>"
LORA = {"objective": "sft", "method": "lora", "modules_to_save": ()}


def words_tokenizer() -> Any:
    """One token for each word, so that every ordinary one is met in training."""
    specials = ["<|endoftext|>", START, END, "user", "assistant"]
    ids = {token: i for i, token in enumerate([*specials, *WORDS])}
    core = Tokenizer(models.WordLevel(ids, unk_token=specials[0]))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(specials[:3])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=specials[0], unk_token=specials[0],
        extra_special_tokens=[START],
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def trained(
    folder: Path, *, chat: bool, tied: bool, padding: int, dtype: torch.dtype = torch.float32
) -> Path:
    """A tiny model after 60 updates on texts, in turns or plain."""
    tokenizer = words_tokenizer()
    rng = random.Random(1)
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer) + padding, hidden_size=64, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, head_dim=32, intermediate_size=64,
            tie_word_embeddings=tied,
        )
    )  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        some = [" ".join(rng.choices(WORDS, k=12)) for _ in range(8)]
        if chat:
            some = [f"{START}user\n{t}{END}\n{START}assistant\n{t}{END}\n" for t in some]
        ids = tokenizer(some, return_tensors="pt", padding=True)
        labels = ids["input_ids"].masked_fill(ids["attention_mask"] == 0, -100)
        model(**ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.to(dtype).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


CASES: dict[str, dict[str, Any]] = {
    "tied, with rows that no text reaches": {"tied": True, "padding": 24},
    "untied, with rows that no text reaches": {"tied": False, "padding": 24},
    "bf16": {"tied": False, "padding": 24, "dtype": torch.bfloat16},
}


@pytest.mark.parametrize("name", CASES)
def test_chat_tokens_that_no_text_had_are_told(name: str, tmp_path: Path) -> None:
    assert untrained_chat_tokens(trained(tmp_path / "m", chat=False, **CASES[name])) == [START, END]


@pytest.mark.parametrize("name", CASES)
def test_chat_tokens_that_were_trained_are_not(name: str, tmp_path: Path) -> None:
    assert untrained_chat_tokens(trained(tmp_path / "m", chat=True, **CASES[name])) == []


@pytest.mark.parametrize(
    ("told", "settings"),
    [
        (True, {}),
        (True, {"method": "qlora", "modules_to_save": ["norm"]}),
        (False, {"method": "full"}),
        (False, {"objective": "cpt"}),
        (False, {"modules_to_save": ["model.embed_tokens"]}),
    ],
)
def test_note_is_for_chats_over_frozen_embeddings(
    told: bool, settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = trained(tmp_path / "m", chat=False, tied=True, padding=24)
    note = chat_token_note(folder, {**LORA, **settings})
    assert (note is not None) == told
    assert note is None or (END in note and "modules_to_save" in note)


def rows_set(folder: Path, chosen: Any) -> Path:
    """A base of another maker: its rows for the chat tokens are overwritten by ``chosen``."""
    trained(folder, chat=True, tied=False, padding=0)
    weights = load_file(str(folder / "model.safetensors"))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        chosen(weights[name])
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return folder


def near_zero(matrix: torch.Tensor) -> None:
    matrix[1:3] *= 1e-3


def mean_of_all(matrix: torch.Tensor) -> None:
    matrix[1:3] = matrix.mean(dim=0)


@pytest.mark.parametrize("chosen", [near_zero, mean_of_all])
def test_rows_that_were_only_filled_in_are_told(chosen: Any, tmp_path: Path) -> None:
    assert untrained_chat_tokens(rows_set(tmp_path / "m", chosen)) == [START, END]


def test_reserved_tokens_are_what_an_untrained_one_is_like(tmp_path: Path) -> None:
    folder = trained(tmp_path / "m", chat=True, tied=True, padding=24)
    tree = json.loads((folder / "tokenizer.json").read_text())
    size = 1 + max(tree["model"]["vocab"].values())
    # As Llama 3's: the ids behind the words are reserved tokens, and one of them ends a turn.
    tree["added_tokens"] += [
        {**tree["added_tokens"][0], "id": size + i, "content": f"<|reserved_special_token_{i}|>"}
        for i in range(23)
    ]
    tree["added_tokens"].append({**tree["added_tokens"][0], "id": size + 23, "content": "<|eot|>"})
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    template = CHAT_TEMPLATE.replace(END, "<|eot|>")
    (folder / "chat_template.jinja").write_text(template)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "<|eot|>"}))
    assert untrained_chat_tokens(folder) == ["<|eot|>"]


def test_folder_without_tokenizer_tells_nothing(tmp_path: Path) -> None:
    assert untrained_chat_tokens(tmp_path) == []
