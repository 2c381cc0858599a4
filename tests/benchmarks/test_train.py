"""The training benchmarks measure what they say, on tiny shapes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import train_case
from benchmarks.peer import ROOT
from benchmarks.train import TINY
from benchmarks.train_case import build_case, read_case
from benchmarks.train_gpu_case import CASES, write_case
from benchmarks.train_gpu_case import read_case as read_gpu_case
from benchmarks.train_gpu_side import kernel_difference, quantise, random_model
from pipeline.data.arrow import read_rows


def case_in(place: Path) -> Any:
    place.mkdir()
    path = build_case(
        place, shape=TINY, rows=24, global_batch=8, micro=8, block=1024, turns=1, threads=1
    )
    return read_case(str(path))


def test_packed_unpacked_and_the_peers_rows_are_the_same_rows(tmp_path: Path) -> None:
    case = case_in(tmp_path / "case")
    alone = {
        r["example_id"]: r["input_ids"] for r in read_rows(Path(case.unpacked) / "train.arrow")
    }
    packed = {}
    for block in read_rows(Path(case.packed) / "train.arrow"):
        cuts = np.cumsum(block["lengths"])[:-1]
        parts = np.split(np.array(block["input_ids"]), cuts)
        packed |= {n: p.tolist() for n, p in zip(block["members"], parts, strict=True)}
    theirs = [json.loads(line)["input_ids"] for line in Path(case.rows).read_text().splitlines()]
    held = [json.loads(line)["input_ids"] for line in Path(case.held_out).read_text().splitlines()]
    assert packed == alone
    assert sorted(theirs) == sorted(alone.values())
    assert case.tokens == sum(map(len, theirs))
    assert not {tuple(row) for row in held} & {tuple(row) for row in theirs}


def test_rows_that_are_made_have_alpacas_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_case, "REAL", tmp_path)
    made = train_case._made(3000, 512)
    answers = np.array([len(told) for _, told in made])
    for share, wanted in ((0.25, 27), (0.5, 109), (0.75, 264), (0.95, 404)):
        assert np.quantile(answers, share) == pytest.approx(wanted, rel=0.15)
    assert train_case.source().startswith("made by a seed")
    # Alpaca's own mean is 180 tokens; slots of a padded batch of 8 are 55 % padding.
    case = case_in(tmp_path / "case")
    assert case.tokens / 24 == pytest.approx(180, rel=0.1)
    assert case.padding == pytest.approx(0.55, abs=0.08)


def test_random_base_is_quantised_as_a_loaded_one_is(tmp_path: Path) -> None:
    """Oracle: transformers' own loading of the same weights in NF4."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    path = write_case(tmp_path / "q", "qlora", device="cpu", tiny=True, compiled=False)
    case = read_gpu_case(str(path))
    plain = random_model(case, torch.float32, "sdpa")
    plain.save_pretrained(str(tmp_path / "saved"))
    ours = random_model(case, torch.float32, "sdpa")
    quantise(ours, "cpu")
    theirs = AutoModelForCausalLM.from_pretrained(
        str(tmp_path / "saved"),
        dtype=torch.float32,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
    )
    pairs = zip(ours.named_parameters(), theirs.named_parameters(), strict=True)
    for (name, found), (other, wanted) in pairs:
        assert name == other
        assert torch.equal(found.data.flatten(), wanted.data.flatten()), name


def test_kernel_on_this_device_is_each_segment_alone() -> None:
    assert kernel_difference("cpu") < 1e-2


def run(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", *arguments, "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.strip().splitlines()


@pytest.mark.long
def test_contestants_end_with_equal_losses_and_four_quotients() -> None:
    """The script itself fails where the losses differ."""
    lines = run("benchmarks.train", "--tiny", "--rows", "16", "--turns", "1")
    found = json.loads(lines[-1])
    assert set(found) == {
        "unpacked_vs_trainer", "packed_vs_trainer", "packed_vs_trl", "step_overhead"
    }  # fmt: skip
    assert all(value > 0 for value in found.values())
    assert any(line.startswith("chain: chain-l2/train") for line in lines)


@pytest.mark.long
def test_gpu_script_runs_whole_on_a_cpu() -> None:
    lines = run("benchmarks.train_gpu", "--device", "cpu", "--tiny", "--no-compile")
    found = json.loads(lines[-1])
    for name in CASES:
        assert found[f"{name}_speed"] > 0, "\n".join(lines)
        assert found[f"{name}_memory"] > 0


@pytest.mark.long
def test_gpu_script_compiles_layers() -> None:
    lines = run("benchmarks.train_gpu", "--device", "cpu", "--tiny", "--cases", "lora")
    assert any(line.startswith("lora own") and "layers compiled" in line for line in lines), (
        "\n".join(lines)
    )
