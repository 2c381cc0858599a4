"""A family small enough to be made in seconds: a random base and two random adapters."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.artifact import scan_files
from pipeline.core.digest import tree_digest

MAX_MODEL_LEN = 128
CORPUS = ["My card was declined, and I want a new one.", "How do I top up my account by transfer?"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# What pipeline.data.rendering finds for its tokenizer; a test compares them.
CONTROLS = {
    "always": ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
    "outside_assistant": [],
    "separator": "\u2060",
    "ignore_case": False,
}


@dataclass(frozen=True)
class Family:
    """Where the tiny family lies."""

    bundle: Path
    base: Path
    adapters: dict[str, Path]

    @property
    def names(self) -> list[str]:
        return ["demo-l0", *self.adapters]


def make_family(root: Path) -> Family:
    """Write base, adapters and bundle under ``root``; the same bytes every time."""
    base = root / "base"
    _make_base(base)
    bundle = root / "bundle"
    adapters = {}
    for seed, (name, rank) in enumerate((("demo-l1", 4), ("demo-l2", 12)), start=1):
        adapters[name] = bundle / "adapters" / f"{name}-{seed:08x}"
        make_adapter(base, adapters[name], rank, seed)
    entries = [
        {
            "name": name,
            "level": name[-2:].upper(),
            "path": str(path.relative_to(bundle)),
            "rank": json.loads((path / "adapter_config.json").read_text())["r"],
            "digest": tree_digest(scan_files(path)),
        }
        for name, path in adapters.items()
    ]
    (bundle / "bundle.json").write_text(
        json.dumps(
            {
                "name": "demo-intents",
                "base": {"path": str(base), "name": "demo-l0", "level": "L0", "digest": "c0ffee11"},
                "adapters": entries,
                "max_model_len": MAX_MODEL_LEN,
                "system": None,
                "chat_template_kwargs": {},
                "controls": CONTROLS,
                "stop_token_ids": [2],
                "gates": [{"status": "pass", "text": "accuracy on test"}],
                "ungated": False,
                # `golden_bundle` adds them.
                "golden": False,
                "dtype": "float32",
            }
        )
    )
    return Family(bundle, base, adapters)


def _make_base(base: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        CORPUS * 20,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet),
    )
    tokenizer_class: Any = PreTrainedTokenizerFast
    tokenizer = tokenizer_class(tokenizer_object=raw, pad_token=special[0], eos_token=special[2])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(base)
    torch.manual_seed(7)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=MAX_MODEL_LEN,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
        # Wide enough that the top two logits stand well apart: greedy answers are then exact.
        initializer_range=0.2,
    )
    make: Any = Qwen3ForCausalLM
    model = make(config)
    for token in range(len(tokenizer)):
        text = str(tokenizer.decode([token]))
        if token < len(special) or not (text.isascii() and text.strip().isprintable()):
            # Logit 0 is never the largest: answers are plain text, the same in every decoder.
            model.lm_head.weight.data[token] = 0
    model.save_pretrained(base)


def make_adapter(base: Path, folder: Path, rank: int, seed: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3ForCausalLM

    torch.manual_seed(seed)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(Qwen3ForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(str(folder))
    place = folder / "adapter_config.json"
    saved = json.loads(place.read_text())
    # In a bundle the base has no path that engines could follow.
    place.write_text(json.dumps({**saved, "base_model_name_or_path": "demo-l0"}))


def another_version(family: Family, first: Path, folder: Path, rank: int, seed: int) -> Path:
    """The bundle once more, with other weights under the last name."""
    copy = folder / "bundle"
    shutil.copytree(first, copy)
    tree = json.loads((copy / "bundle.json").read_text())
    entry = tree["adapters"][-1]
    place = copy / "adapters" / f"{entry['name']}-{seed:08x}"
    make_adapter(family.base, place, rank, seed)
    shutil.rmtree(copy / entry["path"])
    entry |= {
        "path": str(place.relative_to(copy)),
        "rank": rank,
        "digest": tree_digest(scan_files(place)),
    }
    (copy / "bundle.json").write_text(json.dumps(tree))
    return copy


HEAD = "demo-l2-classifier"
LABELS = ("card_arrival", "card", "top_up")


def make_headed(family: Family, root: Path, pooling: str = "last", **more: Any) -> Path:
    """The family's bundle once more, with a head over an adapter of its own."""
    import torch
    from safetensors.torch import save_file

    bundle = root / "bundle"
    shutil.copytree(family.bundle, bundle)
    folder = bundle / "heads" / f"{HEAD}-00000009"
    make_adapter(family.base, folder, 4, 9)
    torch.manual_seed(10)
    save_file({"score.weight": torch.randn(len(LABELS), 128) / 8}, str(folder / "head.safetensors"))
    head = {
        "kind": "single", "labels": LABELS, "pooling": pooling, "dropout": 0.0, "hidden_size": 128,
        "features": None, "value_mean": 0.0, "value_std": 1.0,
    }  # fmt: skip
    (folder / "head.json").write_text(json.dumps(head))
    tree = json.loads((bundle / "bundle.json").read_text())
    entry = {
        "name": HEAD, "level": "L2", "path": str(folder.relative_to(bundle)), "rank": 4,
        "digest": tree_digest(scan_files(folder)), "temperature": 1.5, "threshold": 0.4,
        "precision": 0.9, **more,
    }  # fmt: skip
    (bundle / "bundle.json").write_text(json.dumps({**tree, "heads": [entry]}))
    return bundle
