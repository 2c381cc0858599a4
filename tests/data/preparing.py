"""Runs the Prepare stage over rows given as lists, and reads what it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from pipeline.core.artifact import Artifact, Manifest
from pipeline.core.schema_data import Clean
from pipeline.core.stage import StageContext
from pipeline.data.arrow import read_rows
from pipeline.modeling.loading import load_tokenizer
from pipeline.stages.prepare import Prepare
from pipeline.stages.scratch import train_tokenizer

TEXTS = [
    f"{a} {b} sails {c} at dawn"
    for a in ("one", "two", "three", "four")
    for b in ("ship", "boat")
    for c in ("home", "alone")
]


def artifact(path: Path, inputs: Mapping[str, Mapping[str, str]] | None = None) -> Artifact:
    return Artifact(
        path, Manifest("Dataset", path.name, path.name, "", 1, {}, {}, inputs or {}, {}, {})
    )


def tiny_base(folder: Path) -> Artifact:
    """A base's tokenizer and configuration, made on the spot."""
    train_tokenizer(TEXTS, 300).save_pretrained(str(folder))
    Qwen3Config(architectures=["Qwen3ForCausalLM"], max_position_embeddings=256).save_pretrained(
        str(folder)
    )
    return artifact(folder)


def tiny_model(folder: Path) -> Artifact:
    """The same base with random weights, told apart enough to prefer something."""
    found = tiny_base(folder)
    tokenizer = load_tokenizer(folder)
    torch.manual_seed(5)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, initializer_range=0.3,
        max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(str(folder))
    return found


def prepare(
    folder: Path,
    root: Artifact,
    splits: dict[str, list[dict[str, Any]]],
    inputs: dict[str, Artifact] | None = None,
    source: dict[str, Any] | None = None,
    **config: Any,
) -> tuple[Artifact, Mapping[str, Any]]:
    """The made Dataset and its facts; ``as_given`` names files in the place of rows.

    ``chat_template`` is a Jinja text in the place of the tokenizer's own.
    """
    (folder / "out").mkdir(parents=True)
    workers = config.pop("workers", 1)
    as_given = config.pop("as_given", {})
    files: dict[str, Path] = {}
    sources: dict[str, Any] = {}
    if "chat_template" in config:
        files["chat_template"] = folder / "template.jinja"
        files["chat_template"].write_text(config.pop("chat_template"))
    for name, rows in splits.items():
        role = "train0" if name == "train" else name
        files[role] = folder / f"{name}.jsonl"
        if name in as_given:
            files[role] = as_given[name]
        else:
            files[role].write_text("".join(json.dumps(row) + "\n" for row in rows))
        form = "classification" if "label" in rows[0] else "text"
        one = {"format": form, "columns": {}, "suffix": ".jsonl", "seed": 0, **(source or {})}
        sources[name] = [one] if name == "train" else one
    settings = {
        "sources": sources, "carve": None, "carve_test": None, "replay": None, "render": "text",
        "system": None, "chat_template_kwargs": {}, "contamination": "drop", "max_length": 64,
        "over_length": "error", "packing": False, "loss_on": "assistant", "max_quarantined": 0,
        "not_checkable": [], "features": [], **config,
        "clean": Clean.model_validate(config.get("clean", {})).model_dump(mode="json"),
    }  # fmt: skip
    context = StageContext(folder / "out", folder, {"threads": workers}, files, lambda _event: None)
    facts = Prepare().run({"tokenizer": root, **(inputs or {})}, settings, context)
    made = artifact(folder / "out", {"tokenizer": {"key": "root", "digest": root.digest}})
    return made, facts


def documents(texts: list[str]) -> list[dict[str, Any]]:
    return [{"text": text} for text in texts]


def names(made: Artifact, split: str) -> list[str]:
    return [row["example_id"] for row in read_rows(made.path / f"{split}.arrow")]


def entries(made: Artifact, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made.path / f"{name}.jsonl").read_text().splitlines()]


def adds_up(facts: Mapping[str, Any]) -> bool:
    return all(
        f["read"] + f.get("received", 0)
        == sum(v for k, v in f.items() if k not in {"read", "received", "details"})
        for f in facts["funnel"].values()
    )
