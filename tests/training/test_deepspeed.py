"""DeepSpeed ZeRO on two processes of a CPU; no lock names the package, so it is fetched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.matrix import cell_job, name_of, run_group, trained_alone
from tests.training.training_case import losses, weights

pytestmark = pytest.mark.long
CELLS = [
    ("sft", "causal", "full"), ("sft", "causal", "lora"), ("dpo", "causal", "lora"),
    ("hybrid", "causal", "lora"), ("classify", "encoder", "lora"), ("tag", "encoder", "full"),
]  # fmt: skip
PACKAGES = (
    "deepspeed==0.19.8", "hjson", "py-cpuinfo", "msgpack", "ninja", "einops", "tqdm",
)  # fmt: skip
CONFIG = "distributed_type: DEEPSPEED\nuse_cpu: true\ndeepspeed_config: {{zero_stage: {stage}}}\n"


@pytest.fixture(scope="module")
def deepspeed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deepspeed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
         "--target", str(folder), *PACKAGES],
        check=True, env={**os.environ, "DS_BUILD_OPS": "0"},
    )  # fmt: skip
    return folder


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", [2, 3])
def test_zero_makes_the_losses_and_the_weights_of_one_process(
    stage: int, deepspeed: Path, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(deepspeed))
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    alone = trained_alone(bench, CELLS, tmp_path)
    config = tmp_path / f"zero{stage}.yaml"
    config.write_text(CONFIG.format(stage=stage))
    launch = {"num_processes": 2, "config": str(config)}
    jobs = {name_of(c): cell_job(bench, c, f"zero{stage}", launch=launch) for c in CELLS}
    facts = run_group(bench, f"zero{stage}", jobs)
    for name, done in jobs.items():
        assert facts[name]["wrapper"] == "DeepSpeedEngine"
        assert losses(done) == pytest.approx(losses(alone[name]), abs=1e-5)
        expected, found = weights(alone[name]), weights(done)
        assert found.keys() == expected.keys()
        for tensor_name, tensor in expected.items():
            torch.testing.assert_close(found[tensor_name], tensor, rtol=0, atol=5e-4)
