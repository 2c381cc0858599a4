"""`gradus run` starts the processes that a recipe asks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.artifact import read_artifact
from tests.tiny_ladder import write_ladder

FSDP = "distributed_type: FSDP\nuse_cpu: true\nfsdp_config: {fsdp_version: 2}\n"


@pytest.mark.parametrize("wrapper", ["DistributedDataParallel", "FSDPModule"])
def test_run_trains_in_two_processes(wrapper: str, tmp_path: Path) -> None:
    write_ladder(tmp_path)
    (tmp_path / "fsdp.yaml").write_text(FSDP)
    launch: dict[str, Any] = {"num_processes": 2}
    if wrapper == "FSDPModule":
        launch["config"] = str(tmp_path / "fsdp.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "run", str(tmp_path / "l0.yaml"),
         "--set", f"train.launch={json.dumps(launch)}", "--json"],
        env={**os.environ, "GRADUS_STORE": str(tmp_path / "store")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    artifacts = [read_artifact(p) for p in (tmp_path / "store/objects").iterdir()]
    facts = [a.manifest.facts for a in artifacts if a and a.manifest.stage == "train-full"]
    assert [f["processes"] for f in facts] == [2]
    assert [f["wrapper"] for f in facts] == [wrapper]
    # Nobody may read a warning or a traceback in what went well.
    assert "Warning" not in done.stderr
    assert "Traceback" not in done.stderr
