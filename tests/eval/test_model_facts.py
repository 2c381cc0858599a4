"""What manifests tell of a model: its base, its size, its training, every source below it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.model_facts import model_facts
from pipeline.core.artifact import Artifact, Manifest, read_artifact, write_manifest


class Family:
    """Artifacts side by side, each under its key, as a store has them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def made(self, node: str, stage: str, **about: Any) -> Artifact:
        key = node.replace("/", "-")
        folder = self.root / key
        folder.mkdir()
        for name, text in about.get("files", {}).items():
            (folder / name).write_text(text, encoding="utf-8")
        inputs = {role: {"key": a.key, "digest": ""} for role, a in about.get("into", {}).items()}
        manifest = Manifest(
            "Model", key, "", stage, 1, about.get("config", {}), {}, inputs, {}, {},
            about.get("facts", {}), {"node": node},
        )  # fmt: skip
        write_manifest(folder, manifest)
        found = read_artifact(folder)
        assert found is not None
        return found

    def grown(self, base: Artifact) -> list[Artifact]:
        """An L1 over the base, and two trainings of an L2 over the L1."""
        rows = {"sources": [{"split": "train", "repo": "a/text", "read": 9, "licence": "CC0-1.0"},
                            {"split": "test", "repo": "a/other", "read": 1}]}  # fmt: skip
        data = self.made("l1/prepare.cpt", "prepare", facts=rows)
        below = self.made(
            "l1/train.cpt.seed1", "train", config={"objective": "cpt", "seed": 1},
            into={"root": base, "data": data},
        )  # fmt: skip
        export = self.made("l1/export.cpt.seed1", "export", into={"own": below, "root": base})
        mine = {"sources": [{"split": "train", "name": "rows.jsonl", "read": 5}]}
        clean = {"clean": {"language": {"keep": ["en", "zh"]}}, "system": "Brief.",
                 "chat_template_kwargs": {"enable_thinking": False}}  # fmt: skip
        data = self.made("l2/prepare.sft", "prepare", facts=mine, config=clean)
        settings = {"method": "lora", "lora_r": 8, "max_steps": None, "learning_rate": 1e-3}
        return [
            self.made(
                f"l2/train.sft.seed{seed}", "train",
                config={**settings, "objective": "sft", "seed": seed},
                facts={"all_parameters": 120, "trainable_parameters": 20},
                into={"root": base, "parent": export, "data": data},
            )
            for seed in (2, 1)
        ]  # fmt: skip


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return Family(tmp_path)


CONFIG = json.dumps({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"})


def test_a_model_is_followed_down_to_its_base(family: Family) -> None:
    card = "---\nlicense: apache-2.0\nlanguage: en\n---\n# A base\n"
    files = {"config.json": CONFIG, "README.md": card}
    base = family.made("a/base@1/fetch", "fetch", files=files, facts={"origin": "a/base@c0ffee"})
    assert model_facts(family.grown(base)) == {
        "causal": True, "over_base": True, "chat": True, "own_template": False, "system": "Brief.",
        "chat_template_kwargs": {"enable_thinking": False}, "heads": {},
        "base": "a/base", "base_kind": "hub", "revision": "c0ffee",
        "base_licence": "apache-2.0", "architecture": "Qwen3ForCausalLM", "parameters": 120,
        "trainable_parameters": 20, "objectives": ["sft"], "seeds": [1, 2], "below": ["l1"],
        "training": {"method": "lora", "lora_r": 8, "learning_rate": 1e-3},
        "languages": ["en", "zh"],
        "sources": [
            {"split": "train", "name": "rows.jsonl", "read": 5, "for": "l2"},
            {"split": "train", "repo": "a/text", "read": 9, "licence": "CC0-1.0", "for": "l1"},
        ],
    }  # fmt: skip


def test_a_base_without_a_card_has_no_known_licence(family: Family) -> None:
    base = family.made("folder/fetch", "fetch", files={"config.json": "{}"},
                       facts={"origin": "folder"})  # fmt: skip
    found = model_facts(family.grown(base))
    assert (found["base"], found["base_kind"]) == ("folder", "folder")
    assert [found[name] for name in ("revision", "base_licence", "architecture")] == [None] * 3


def test_how_an_encoders_head_is_loaded_is_told(family: Family) -> None:
    config = json.dumps({"architectures": ["BertForMaskedLM"], "model_type": "bert"})
    files = {"config.json": config, "tokenizer_config.json": "{}"}
    base = family.made("b/fetch", "fetch", files=files, facts={"origin": "a/bert@c0ffee"})
    head = json.dumps({"kind": "single", "pooling": "cls", "features": None})
    rows = family.made("l2/prepare.classify", "prepare")
    trained = family.made("l2/train.classify", "train", into={"root": base, "data": rows},
                          config={"objective": "classify", "seed": 0},
                          files={"head.json": head})  # fmt: skip
    found = model_facts([trained])
    assert [found[name] for name in ("causal", "chat", "over_base")] == [False, False, True]
    assert found["heads"] == {"classify": {"kind": "single", "pooling": "cls", "features": False}}
    above = family.made("l3/train.sft", "train", into={"root": trained, "data": rows},
                        config={"objective": "sft", "seed": 0})  # fmt: skip
    assert not model_facts([above])["over_base"]


def test_a_base_made_from_nothing_is_said_to_be_so(family: Family) -> None:
    base = family.made("l0/scratch", "scratch", files={"config.json": CONFIG})
    found = model_facts(family.grown(base))
    assert (found["base"], found["base_kind"]) == ("l0", "scratch")


def test_where_nothing_was_trained_there_are_no_facts() -> None:
    assert model_facts([]) == {}
