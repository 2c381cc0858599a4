"""A recipe's `export`, whole: trained, merged, quantised, judged, gated again, served by vLLM.

Long: ``pytest -m long tests/serve/test_export_chain.py``, after ``gradus export install`` and
``gradus engine install --device cpu``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline.core.store import Store
from pipeline.stages.quantise_install import export_environment
from tests.tiny_ladder import write_ladder

pytestmark = [pytest.mark.long, pytest.mark.engine]


def run(folder: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "run", str(folder / "l2.yaml"), "--json", *words],
        env={**os.environ, "GRADUS_STORE": str(folder / "store"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def made(folder: Path, node: str) -> list[Path]:
    every = Store(folder / "store").all()
    return [each.path for each in every if each.manifest.run["node"] == node]


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not export_environment().is_current():
        pytest.skip("llm-compressor is not installed; run `gradus export install` first")
    folder = tmp_path_factory.mktemp("export")
    write_ladder(folder)
    return folder


FP8 = ("--set", "export.scheme=fp8")


def test_what_its_gate_refuses_is_not_put_together(ladder: Path) -> None:
    """No interval of a few items lies within a ten-thousandth."""
    code, _, said = run(ladder, *FP8, "--set", "export.not_worse_by=0.0001")
    assert code == 3, said
    assert "not exported: " in said
    assert made(ladder, "tiny-task/quantise")
    assert not made(ladder, "tiny-task/bundle-export")


def test_what_passes_is_whole_and_vllm_answers_as_it_was_judged(
    ladder: Path, serve_vllm: Any
) -> None:
    code, _, said = run(ladder, *FP8, "--set", "export.not_worse_by=0.9",
                        "--set", "export.at_most_ratio=2")  # fmt: skip
    assert code == 0, said
    (folder,) = made(ladder, "tiny-task/bundle-export")
    told = json.loads((folder / "export.json").read_text())
    assert told["scheme"] == "fp8"
    assert {gate["status"] for gate in told["comparison"]["gates"]} == {"pass"}
    config = json.loads((folder / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    with serve_vllm(folder) as server:
        # Parity was held before it was ready: ids, and log-probabilities of both roundings.
        assert any(line.startswith("parity: ") for line in server.lines), server.lines
        (card,) = requests.get(f"{server.url}/v1/models", timeout=10).json()["data"]
        assert card["id"] == "tiny-task"
        body = {"model": card["id"], "max_tokens": 4, "temperature": 0,
                "messages": [{"role": "user", "content": "rain and wind"}]}  # fmt: skip
        answer = requests.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
        assert answer.status_code == 200
        assert answer.json()["usage"]["completion_tokens"] >= 1
