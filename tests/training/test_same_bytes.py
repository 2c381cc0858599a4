"""The same seed on the same machine: the same bytes, in another process and in any layout's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.objectives import OBJECTIVES, cell_problem
from tests.training.forked import Forge
from tests.training.matrix import VARIANTS, cell_job

CELLS = [
    (objective, VARIANTS.get(objective, ("causal",))[-1], method)
    for objective in OBJECTIVES
    for method in ("full", "lora")
    if cell_problem(objective, method, "single") is None
]
SHARED = [("ddp", ("sft", "causal", "lora")), ("fsdp", ("dpo", "causal", "full")),
          ("fsdp", ("hybrid", "causal", "lora"))]  # fmt: skip
RANDOM: dict[str, Any] = {"max_steps": 4, "eval_steps": 2, "load_best_model_at_end": True}


def _files(folder: str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in Path(folder).iterdir()}


@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_second_run_makes_the_same_bytes(
    cell: tuple[str, str, str], bench: Path, forge: Forge, tmp_path: Path
) -> None:
    settings = {**RANDOM, "lora_dropout": 0.2} if cell[2] == "lora" else RANDOM
    made = []
    for turn in "ab":
        job = cell_job(bench, cell, "single", tmp_path / turn, **settings)
        assert forge.run(job).codes == [0]
        made.append(_files(job.out))
    assert made[0] == made[1]


@pytest.mark.parametrize(("wrapper", "cell"), SHARED, ids=[f"{w} {c[0]}" for w, c in SHARED])
def test_second_run_of_two_processes_makes_the_same_bytes(
    wrapper: str, cell: tuple[str, str, str], bench: Path, forge: Forge, tmp_path: Path
) -> None:
    made = []
    for turn in "ab":
        job = cell_job(bench, cell, wrapper, tmp_path / turn, **RANDOM)
        assert forge.run(job, processes=2).codes == [0, 0]
        made.append(_files(job.out))
    assert made[0] == made[1]
