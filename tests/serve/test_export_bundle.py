"""The exported folder: weights, card and bundle.json side by side, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import ModelCard, ModelCardData
from stand_ins import artifact, serve

from pipeline.core.errors import GateFailed
from serve.bundle import read_bundle
from serve.export_bundle import BundleExport

CARD = """\
---
license: mit
library_name: peft
base_model: acme/base
base_model_relation: adapter
tags:
- gradus
- lora
model_name: x
---

# x

**pass**: 1 of 1 promises kept.

## How to use

```python
## this is code
PeftModel
```

## Results

A table.

## How it was made

Slowly.
"""
INTERVAL = {"estimate": 0.5, "low": 0.4, "high": 0.6, "covers": "items"}
CONFIG = {
    "name": "x", "title": "x", "level": "L2", "scheme": "awq", "dtype": "float16",
    **serve(64), "system": "Be brief.", "chat_template_kwargs": {},
}  # fmt: skip


def gate(status: str, text: str) -> dict[str, str]:
    return {"status": status, "text": f"{text}: {status}"}


def bundle(tmp_path: Path, export: str = "pass", own: str = "pass") -> Path:
    model, data, judged, report, out = (
        tmp_path / name for name in ("model", "data", "judged", "report", "out")
    )
    for folder in (model, data, judged, report, out):
        folder.mkdir()
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"):
        (model / name).write_text("{}")
    (model / "manifest.json").write_text("of the model alone")
    rendering = {"render": "sft", "chat_template_kwargs": {"enable_thinking": False},
                 "controls": None}  # fmt: skip
    (data / "render.json").write_text(json.dumps(rendering))
    figure = {"suite": "test", "metric": "accuracy", "items": 9, "exported": INTERVAL,
              "unquantised": {**INTERVAL, "estimate": 0.55}}  # fmt: skip
    told = {"comparison": {"gates": [gate(export, "export: accuracy on test")]}, "arm": "generate",
            "figures": [figure], "title": "x"}  # fmt: skip
    (judged / "report.json").write_text(json.dumps(told))
    tree = {"title": "x", "comparison": {"gates": [gate(own, "accuracy on test")]}}
    (report / "report.json").write_text(json.dumps(tree))
    (report / "README.md").write_text(CARD)
    facts = {"versions": {"llmcompressor": "0.14"}, "calibrated_on": 7, "group_size": 64}
    inputs: Any = {
        "root": artifact(model, "ab" * 32, **facts),
        "data": artifact(data), "judged": artifact(judged),
        "report0": artifact(report),
    }  # fmt: skip
    context: Any = SimpleNamespace(out=out)
    BundleExport().run(inputs, CONFIG, context)
    return out


def test_an_export_is_a_bundle_whose_base_is_itself(tmp_path: Path) -> None:
    out = bundle(tmp_path)
    found = read_bundle(out)
    assert found.base.path == out
    assert (found.base.name, found.dtype, found.adapters) == ("x", "float16", ())
    assert found.chat_template_kwargs == {"enable_thinking": False}
    assert [g["status"] for g in found.gates] == ["pass", "pass"]
    assert not found.ungated
    assert (out / "chat_template.jinja").is_file()
    # The store writes it, of all that lies here.
    assert not (out / "manifest.json").exists()


@pytest.mark.parametrize(
    ("export", "own", "told"),
    [("fail", "pass", "export: accuracy on test: fail"), ("undecided", "pass", "undecided"),
     ("pass", "fail", "accuracy on test: fail")],
)  # fmt: skip
def test_an_export_whose_gates_do_not_pass_is_none(
    tmp_path: Path, export: str, own: str, told: str
) -> None:
    with pytest.raises(GateFailed, match=f"x: not exported: .*{told}"):
        bundle(tmp_path, export, own)
    assert not (tmp_path / "out/bundle.json").exists()
    assert not (tmp_path / "out/model.safetensors").exists()


def test_its_card_tells_what_fewer_bits_cost_and_nothing_of_adapters(tmp_path: Path) -> None:
    card = ModelCard((bundle(tmp_path) / "README.md").read_text())
    data = card.data
    assert isinstance(data, ModelCardData)
    assert data.library_name == "transformers"
    assert data["base_model_relation"] == "quantized"
    assert data.tags == ["gradus", "compressed-tensors", "awq"]
    (result,) = data.eval_results or ()
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.5)
    assert "PeftModel" not in card.text
    assert "vllm serve FOLDER --dtype float16 --max-model-len 64" in card.text
    row = "| accuracy, test (9) | 0.550 [0.400, 0.600] | 0.500 [0.400, 0.600] |"
    assert row in card.text
    assert "calibrated on 7 of its training rows" in card.text
    assert "figures are of the model before its export" in card.text
