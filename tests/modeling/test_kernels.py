"""The attention kernel: one choice for the loop and for the price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.launch import LaunchSettings
from pipeline.core.schema import Train
from pipeline.data.arrow import Split, write_split
from pipeline.modeling import segment_attention
from pipeline.price_estimate import _kernel
from pipeline.price_rows import rows_in
from pipeline.price_terms import Case
from pipeline.train_plan import train_config, train_options
from pipeline.training.trainee import TrainJob, attention_of

SHORT, LONG = 40, 100


@pytest.mark.parametrize(
    ("length", "packed", "changes", "asked", "kernel"),
    [
        (SHORT, False, {}, "auto", "eager"),
        (LONG, False, {}, "auto", "sdpa"),
        (SHORT, False, {}, "sdpa", "sdpa"),
        (LONG, True, {}, "auto", segment_attention.NAME),
        (LONG, True, {}, "eager", "eager"),
        # What segments do not know: the mask has to keep packed rows apart.
        (LONG, True, {"attn_logit_softcapping": 50.0}, "auto", "sdpa"),
        (LONG, True, {"attention_dropout": 0.1}, "auto", "sdpa"),
    ],
)
def test_the_price_counts_with_the_kernel_that_training_takes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    packed: bool,
    changes: dict[str, Any],
    asked: str,
    kernel: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    shape = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], **changes}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    (tmp_path / "labels.json").write_text("[]")
    lengths = [length // 2, length - length // 2] if packed else None
    row = {"text": "", "input_ids": [1] * length, "supervised": [1] * length, "lengths": lengths}
    write_split(tmp_path / "train.arrow", [{**row, "example_id": str(i)} for i in range(4)])
    train = Train.model_validate({"objective": "sft", "attention": asked})
    config, options = train_config(train, "sft"), train_options(train)
    folder = str(tmp_path)
    job = TrainJob(folder, None, folder, folder, folder, config, options)
    taken = attention_of(job, Split(tmp_path / "train.arrow"))
    rows = rows_in(tmp_path, "sft")
    case = Case(shape, config, options, LaunchSettings("single", 1), rows)
    assert _kernel(case, gpu=False) == taken == kernel
