"""A base, rows and adapters that stand as if trained, for the stages `export` and `merge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from transformers import BertConfig, BertForMaskedLM, Qwen3Config, Qwen3ForCausalLM

from pipeline.core.artifact import Artifact, Manifest
from pipeline.core.schema import Train
from pipeline.core.stage import StageContext
from pipeline.data.arrow import write_split
from pipeline.modeling.adapter_files import write_adapter
from pipeline.modeling.adapters import add_lora, attach_frozen
from pipeline.modeling.heads import HeadConfig, new_classifier, save_head
from pipeline.modeling.loading import load_model
from pipeline.stages.scratch import train_tokenizer

TEXTS = [f"the {a} {b} in the {b} of the {a}" for a in ("red", "blue") for b in ("ship", "dock")]
PLAIN = {"method": "lora", "precision": "fp32"}


def artifact(folder: Path) -> Artifact:
    return Artifact(folder, Manifest("Model", "k", "d", "s", 1, {}, {}, {}, {}, {}))


def base(folder: Path, *, encoder: bool = False) -> Path:
    tokenizer = train_tokenizer(TEXTS, 300)
    torch.manual_seed(0)
    if encoder:
        model: Any = BertForMaskedLM(
            BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2,
                       num_attention_heads=2, intermediate_size=48)
        )  # fmt: skip
    else:
        model = Qwen3ForCausalLM(
            Qwen3Config(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2,
                        num_attention_heads=2, num_key_value_heads=1, head_dim=16,
                        intermediate_size=64, tie_word_embeddings=True, initializer_range=0.2)
        )  # fmt: skip
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def dataset(folder: Path) -> Path:
    folder.mkdir()
    tokenizer = train_tokenizer(TEXTS, 300)
    rows = [
        {"example_id": str(i), "text": text, "label": None, "input_ids": ids,
         "supervised": [int(t > 2) for t in range(len(ids))]}
        for i, text in enumerate(TEXTS) for ids in [tokenizer(text)["input_ids"]]
    ]  # fmt: skip
    write_split(folder / "train.arrow", rows)
    (folder / "labels.json").write_text(json.dumps(["a", "b"]))
    return folder


def adapter(
    folder: Path, root: Path, seed: int, parent: Path | None = None, *, head: bool = False,
    encoder: bool = False, **keys: Any,
) -> Path:  # fmt: skip
    settings = Train.model_validate({"lora_r": 4, **keys}).model_dump(mode="json")
    model = load_model(root)
    if parent is not None:
        model = attach_frozen(model, parent)
    body = add_lora(model, settings, seed=seed, encoder=encoder)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in body.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    folder.mkdir()
    tensors = get_peft_model_state_dict(body, adapter_name="default", save_embedding_layers=False)
    write_adapter(folder, tensors, body.peft_config["default"].to_dict())
    if head:
        config = HeadConfig(("a", "b"), "mean", 0.0, 32)
        classifier = new_classifier(body, config, seed)
        save_head(classifier, classifier.score.weight.detach(), folder)
    return folder


def made(stage: Any, out: Path, config: dict[str, Any] = PLAIN, **inputs: Path) -> dict[str, Any]:
    """Runs a stage over folders; its facts."""
    out.mkdir()
    context = StageContext(out, out.parent, {}, {}, lambda _event: None)
    return dict(stage.run({role: artifact(path) for role, path in inputs.items()}, config, context))
