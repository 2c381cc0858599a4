"""Every objective x method: golden losses, and the same losses on two processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.core.objectives import OBJECTIVES, cell_problem
from pipeline.core.schema_train import Train
from pipeline.training.loop import train
from tests.training.matrix import (
    METHODS,
    WRAPPERS,
    cell_job,
    cells,
    golden,
    name_of,
    run_group,
    table,
    trained_alone,
)
from tests.training.training_case import losses, quiet, weights

CELLS = list(cells())
NAMES = [name_of(cell) for cell in CELLS]
SHARED = [(w, c) for w in ("ddp", "fsdp") for c in CELLS if cell_problem(c[0], c[2], w) is None]


@pytest.fixture(scope="module")
def alone(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained_alone(bench, CELLS, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def shared(bench: Path) -> dict[tuple[str, str], tuple[Any, dict[str, Any]]]:
    """(wrapper, cell) to its job and facts; one group of two processes for all of a wrapper."""
    found: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {}
    for wrapper in ("ddp", "fsdp"):
        jobs = {name_of(c): cell_job(bench, c, wrapper) for w, c in SHARED if w == wrapper}
        for name, facts in run_group(bench, wrapper, jobs).items():
            found[wrapper, name] = jobs[name], facts
    return found


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_the_golden_ones(name: str, alone: dict[str, Any]) -> None:
    expected = golden()
    assert losses(alone[name]) == pytest.approx(expected[name], abs=1e-4)
    assert expected.keys() == set(NAMES)


@pytest.mark.parametrize(("wrapper", "cell"), SHARED, ids=[f"{w} {name_of(c)}" for w, c in SHARED])
def test_two_processes_make_the_losses_and_the_weights_of_one(
    wrapper: str, cell: tuple[str, str, str], alone: dict[str, Any], shared: dict[Any, Any]
) -> None:
    done, facts = shared[wrapper, name_of(cell)]
    assert "error" not in facts
    assert facts["processes"] == 2
    assert facts["wrapper"] == {"ddp": "DistributedDataParallel", "fsdp": "FSDPModule"}[wrapper]
    one = alone[name_of(cell)]
    assert losses(done) == pytest.approx(losses(one), abs=1e-5)
    assert _validations(done) == [pytest.approx(v, abs=1e-5) for v in _validations(one)]
    expected = weights(one)
    found = weights(done)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        # AdamW divides by the gradient's size: where that is near nothing, rounding shows.
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=5e-4)


def _validations(done: Any) -> list[dict[str, float]]:
    lines = (Path(done.out) / "history.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if "validation_loss" in r]


def test_every_objective_has_valid_cells_and_a_reason_for_the_others() -> None:
    for objective in OBJECTIVES:
        valid = [m for m in METHODS if cell_problem(objective, m, "single") is None]
        assert "full" in valid
        for method in METHODS:
            for wrapper in WRAPPERS:
                problem = cell_problem(objective, method, wrapper)
                assert problem is None or "use " in problem


def test_cell_that_is_no_cell_is_refused_by_the_schema() -> None:
    with pytest.raises(ValueError, match="starts from random weights"):
        Train.model_validate({"objective": "pretrain", "method": "lora"})


@pytest.mark.parametrize("cell", [("mlm", "encoder", "lora"), ("hybrid", "causal", "lora")])
def test_validation_does_not_depend_on_what_stands_together(
    cell: tuple[str, str, str], bench: Path, tmp_path: Path
) -> None:
    """Rows at once follow from the machine's memory, which is in no key."""
    found = []
    for size in (None, 2, 1):
        folder = tmp_path / f"{size}"
        done = cell_job(bench, cell, "single", folder, micro_batch_size=size, max_steps=2,
                        global_batch_size=6, eval_steps=1)  # fmt: skip
        train(done, quiet)
        found.append([v["validation_loss"] for v in _validations(done)])
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    assert found[2] == pytest.approx(found[0], abs=1e-6)


def test_readme_shows_what_runs() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert table() in readme
