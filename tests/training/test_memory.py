"""Out of memory for real: the kernel gives a process no more address space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pipeline.data.arrow import write_split
from pipeline.training.trainee import TrainJob
from tests.training.forked import Forge
from tests.training.training_case import TEXTS, job, losses

TOKENS = 512
MIB = 1 << 20


def write_rows(bench: Path, folder: Path, tokens: int, count: int) -> None:
    """A Dataset of so many rows of so many tokens."""
    tokenizer = AutoTokenizer.from_pretrained(str(bench / "causal"))
    ids = tokenizer(" ".join(TEXTS * 40))["input_ids"]
    folder.mkdir()
    rows: list[dict[str, Any]] = [
        {"example_id": str(i), "text": "", "label": None, "input_ids": ids[i : i + tokens],
         "supervised": [1] * tokens} for i in range(count)
    ]  # fmt: skip
    assert all(len(row["input_ids"]) == tokens for row in rows)
    write_split(folder / "train.arrow", rows)
    write_split(folder / "validation.arrow", rows[:8])
    (folder / "labels.json").write_text("[]")


@pytest.fixture(scope="module")
def long_rows(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen rows whose attention takes some 20 MiB each, and one of many times that."""
    folder = tmp_path_factory.mktemp("long")
    write_rows(bench, folder / "many", TOKENS, 16)
    write_rows(bench, folder / "one", 4096, 1)
    return folder


def _job(bench: Path, data: Path, folder: Path, **settings: Any) -> TrainJob:
    asked = {
        "global_batch_size": 16, "micro_batch_size": 16, "auto_micro_batch": True, "max_steps": 3,
        "save_steps": 1, "eval_steps": 3, "attention": "eager", **settings,
    }  # fmt: skip
    return job(bench / "causal", data, folder, "cpt", **asked)


def test_halving_keeps_the_global_batch_and_the_losses(
    bench: Path, long_rows: Path, forge: Forge, tmp_path: Path
) -> None:
    enough = _job(bench, long_rows / "many", tmp_path / "enough")
    assert forge.run(enough, halve=True).codes == [0]
    short = _job(bench, long_rows / "many", tmp_path / "short")
    # Near the limit itself glibc dies of a new thread; sixteen rows need far more than this.
    ended = forge.run(short, halve=True, extra_bytes=180 * MIB)
    assert ended.codes == [0], ended
    told = [text for text in ended.messages if "the global batch stays" in text]
    # How often depends on what the forked process had free already.
    assert told
    assert "16 rows at once; goes on with 8" in told[0]
    assert ended.facts["micro_batch_size"] <= 8
    assert losses(short) == pytest.approx(losses(enough), abs=1e-5)


def test_error_names_the_micro_batch_and_what_to_set(
    bench: Path, long_rows: Path, forge: Forge, tmp_path: Path
) -> None:
    short = _job(bench, long_rows / "many", tmp_path, auto_micro_batch=False)
    ended = forge.run(short, halve=True, extra_bytes=200 * MIB)
    assert ended.codes == [1]
    [(kind, text)] = ended.errors
    assert kind == "OutOfMemory"
    assert "with 16 rows at once" in text
    assert "set train.micro_batch_size=8, or train.auto_micro_batch=true" in text
    assert "\n" not in text


def test_one_row_that_does_not_fit_is_an_error_and_no_endless_loop(
    bench: Path, long_rows: Path, forge: Forge, tmp_path: Path
) -> None:
    short = _job(bench, long_rows / "one", tmp_path, global_batch_size=4, micro_batch_size=4)
    ended = forge.run(short, halve=True, extra_bytes=300 * MIB)
    assert ended.codes == [1]
    [(kind, text)] = ended.errors
    assert kind == "OutOfMemory"
    assert "with 1 rows at once" in text
    assert "gradient_checkpointing" in text


def test_model_that_does_not_fit_is_one_line(
    bench: Path, long_rows: Path, forge: Forge, tmp_path: Path
) -> None:
    ended = forge.run(_job(bench, long_rows / "many", tmp_path), halve=True, extra_bytes=1 << 16)
    assert ended.codes == [1]
    [(kind, text)] = ended.errors
    assert kind == "OutOfMemory"
    assert "while the model was built" in text


def test_one_process_of_two_says_that_its_memory_is_short(
    bench: Path, long_rows: Path, forge: Forge, tmp_path: Path
) -> None:
    short = _job(bench, long_rows / "many", tmp_path, launch={"num_processes": 2},
                 micro_batch_size=8)  # fmt: skip
    ended = forge.run(short, processes=2, extra_bytes=150 * MIB, short_rank=1)
    assert ended.codes[1] == 1
    assert ended.errors[0][0] == "OutOfMemory"
    assert "with 8 rows at once" in ended.errors[0][1]
