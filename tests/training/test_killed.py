"""Killed -9 anywhere and run again: the bytes of a training that nobody disturbed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.trainee import TrainJob
from tests.training.forked import Ended, Forge
from tests.training.matrix import cell_job

Cell = tuple[str, str, str]
KEEPS_BEST = {"eval_steps": 2, "load_best_model_at_end": True}
CASES: dict[str, tuple[Cell, dict[str, Any]]] = {
    "lora with dropout, best kept": (
        ("sft", "causal", "lora"), {"lora_dropout": 0.2, "micro_batch_size": 3, **KEEPS_BEST}),
    "full": (("sft", "causal", "full"), {"lr_scheduler_type": "cosine", "warmup_steps": 2}),
    "dpo": (("dpo", "causal", "lora"), {"learning_rate": 3e-3}),
    "both heads": (("hybrid", "causal", "lora"), {"head_learning_rate": 3e-2}),
    "masked": (("mlm", "encoder", "full"), {}),
    "8-bit optimiser": (("sft", "causal", "full"), {"optim": "adamw_8bit"}),
    "4-bit base": (("sft", "causal", "qlora"), {"lora_dropout": 0.1}),
    # The rate is far too high: validation gets worse at once.
    "stops early": (
        ("sft", "causal", "full"),
        {"learning_rate": 0.3, "eval_steps": 1, "early_stopping_patience": 2, "max_steps": 12,
         "load_best_model_at_end": True}),
}  # fmt: skip
PLACES = [
    ("update", 1), ("update", 2), ("update", 4), ("update", 7), ("draft", 1), ("draft", 3),
    ("sealed", 1), ("sealed", 2), ("renamed", 2), ("deleting", 1), ("result", 1),
]  # fmt: skip
ONE = "lora with dropout, best kept"
SHARED = [("ddp", ONE), ("fsdp", "full"), ("fsdp", "dpo"), ("ddp", "full"), ("fsdp", ONE),
          ("ddp", "dpo"), ("ddp", "both heads"), ("ddp", "8-bit optimiser"),
          ("ddp", "4-bit base")]  # fmt: skip
QUICK = 3
TINY_PLACES = [("update", 3), ("draft", 2)]


def _job(bench: Path, folder: Path, case: str, wrapper: str = "single") -> TrainJob:
    cell, settings = CASES[case]
    wanted = {"max_steps": 7, "save_steps": 2, **settings}
    return cell_job(bench, cell, wrapper, folder, **wanted)


class Undisturbed:
    """The files of trainings that ran through, each made once."""

    def __init__(self, bench: Path, forge: Forge, folder: Path) -> None:
        self._bench, self._forge, self._folder = bench, forge, folder
        self._found: dict[tuple[str, str], dict[str, bytes]] = {}

    def files(self, case: str, wrapper: str) -> dict[str, bytes]:
        if (case, wrapper) not in self._found:
            job = _job(self._bench, self._folder / wrapper / case, case, wrapper)
            ended = self._forge.run(job, processes=1 if wrapper == "single" else 2)
            assert not any(ended.codes), ended
            self._found[case, wrapper] = result(job)
        return self._found[case, wrapper]


def result(job: TrainJob) -> dict[str, bytes]:
    """Every file that a training wrote."""
    found = {p.name: p.read_bytes() for p in Path(job.out).iterdir()}
    assert "history.jsonl" in found
    assert any(name.endswith(".safetensors") for name in found)
    return found


@pytest.fixture(scope="module")
def undisturbed(bench: Path, forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(bench, forge, tmp_path_factory.mktemp("undisturbed"))


def _killed_and_run_again(
    forge: Forge, job: TrainJob, expected: dict[str, bytes], processes: int, **kill: Any
) -> Ended:
    killed = forge.run(job, processes=processes, **kill)
    # Of two, one may hear that the other has gone before it is killed itself.
    assert -9 in killed.codes, killed
    assert 0 not in killed.codes, killed
    assert not (Path(job.out) / "history.jsonl").exists()
    again = forge.run(job, processes=processes)
    assert not any(again.codes), again
    assert result(job) == expected
    return again


@pytest.mark.parametrize("place", PLACES, ids=lambda p: f"{p[0]}-{p[1]}")
def test_killed_at_any_place_gives_the_same_bytes(
    place: tuple[str, int], bench: Path, forge: Forge, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    job = _job(bench, tmp_path, ONE)
    again = _killed_and_run_again(forge, job, undisturbed.files(ONE, "single"), 1, kill=place)
    saved = {"update": (place[1] - 1) // 2 * 2, "draft": 2 * place[1] - 2,
             "sealed": 2 * place[1] - 2, "renamed": 2 * place[1], "deleting": 6,
             "result": 6}[place[0]]  # fmt: skip
    assert again.facts["resumed_from"] == (saved or None)


@pytest.mark.parametrize("case", [case for case in CASES if case != ONE])
def test_every_kind_of_training_is_resumed_whole(
    case: str, bench: Path, forge: Forge, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    job = _job(bench, tmp_path, case)
    place = ("update", 4)
    again = _killed_and_run_again(forge, job, undisturbed.files(case, "single"), 1, kill=place)
    assert again.facts["resumed_from"] == 2


def test_patience_goes_on_where_it_was(
    bench: Path, forge: Forge, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    case = "stops early"
    job = _job(bench, tmp_path, case)
    place = ("update", 3)
    again = _killed_and_run_again(forge, job, undisturbed.files(case, "single"), 1, kill=place)
    assert again.facts["updates"] < again.facts["planned_updates"]
    assert any("stops at update" in text for text in again.messages)


@pytest.mark.parametrize(
    ("wrapper", "case"),
    [pytest.param(w, c, id=f"{w} {c}", marks=[pytest.mark.long] * (i >= QUICK))
     for i, (w, c) in enumerate(SHARED)],
)  # fmt: skip
def test_two_processes_killed_give_the_same_bytes(
    wrapper: str, case: str, bench: Path, forge: Forge, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    expected = undisturbed.files(case, wrapper)
    for rank, place in enumerate(TINY_PLACES):
        job = _job(bench, tmp_path / str(rank), case, wrapper)
        _killed_and_run_again(forge, job, expected, 2, kill=(*place, rank))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_killed_again_and_again_at_random_times(
    seed: int, bench: Path, forge: Forge, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """From outside, at any instant: while it loads, computes, writes or deletes."""
    rng = random.Random(seed)
    case = rng.choice(list(CASES))
    wrapper = rng.choice([w for w, c in SHARED if c == case] or ["single"])
    expected = undisturbed.files(case, wrapper)
    processes = 1 if wrapper == "single" else 2
    job = _job(bench, tmp_path, case, wrapper)
    for _ in range(25):
        ended = forge.run(job, processes=processes, after_s=rng.uniform(0.2, 2.5))
        if not any(ended.codes):
            break
        # One may have ended just before the other was killed.
        assert set(ended.codes) <= {0, -9}, ended
    else:
        ended = forge.run(job, processes=processes)
    assert not any(ended.codes)
    assert result(job) == expected
