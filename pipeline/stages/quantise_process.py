"""Runs inside llm-compressor's environment, by its path: it knows nothing of gradus.

Reads one JSON file of wishes, writes one of facts. Everything that it prints is a log.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

# The widest group first: the fewer scales, the fewer bits.
_GROUPS = (128, 64, 32)


def main(asked_file: str) -> None:
    """Quantises, and writes facts or one problem to the file that is named."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(asked_file, encoding="utf-8") as stream:
        asked = json.load(stream)
    facts = _quantised(asked)
    draft = asked["answer"] + ".draft"
    with open(draft, "w", encoding="utf-8") as out:
        json.dump(facts, out)
    Path(draft).replace(asked["answer"])


def _end_with_parent() -> None:
    # The other end of standard input closes when gradus dies.
    # Not the buffered stream: Python could not close it beside a thread that reads.
    while os.read(0, 1):
        pass
    os._exit(1)


def _quantised(asked: dict[str, Any]) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(int(asked["threads"]))
    model: Any = AutoModelForCausalLM.from_pretrained(
        asked["model"],
        dtype=getattr(torch, asked["dtype"]),
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(asked["model"], local_files_only=True)
    if asked["scheme"] == "awq":
        group = _group(model)
        if group is None:
            return {"problem": f"no group of {_GROUPS} weights divides the width of every layer"}
        _awq(model, asked["rows"], group)
    else:
        group = None
        _fp8(model)
    model.save_pretrained(asked["out"])
    tokenizer.save_pretrained(asked["out"])
    from importlib.metadata import version

    return {
        "group_size": group,
        "versions": {name: version(name) for name in ("llmcompressor", "compressed-tensors")},
    }


def _fp8(model: Any) -> None:
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import (
        QuantizationModifier,
    )

    oneshot(
        model=model,
        recipe=QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=["lm_head"]),
    )


def _awq(model: Any, rows: list[list[int]], group: int) -> None:
    import torch
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationScheme,
    )
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import (
        AWQModifier,
    )
    from llmcompressor.pipelines.cache import (
        IntermediatesCache,
    )

    if not torch.accelerator.is_available():
        # 0.14 pins memory for a device that is not there, which torch refuses.
        IntermediatesCache.pin_memory = lambda *_args, **_more: None
    weights = QuantizationArgs(
        num_bits=4, type="int", symmetric=True, strategy="group", group_size=group
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    data = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in rows]
    oneshot(
        model=model,
        dataset=Dataset.from_list(data),
        recipe=[
            AWQModifier(),
            QuantizationModifier(config_groups={"group_0": scheme}, ignore=["lm_head"]),
        ],
        num_calibration_samples=len(rows),
        max_seq_length=max(map(len, rows)),
        # They were drawn already.
        shuffle_calibration_samples=False,
    )


def _group(model: Any) -> int | None:
    """Weights that share a scale: a divisor of the width of every layer that is quantised."""
    import torch

    widths = {
        module.in_features
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head")
    }
    return next((g for g in _GROUPS if all(width % g == 0 for width in widths)), None)


if __name__ == "__main__":
    main(sys.argv[1])
