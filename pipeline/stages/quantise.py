"""Stage `quantise`: whole weights in fewer bits, by llm-compressor in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError, EngineError, ModelError
from pipeline.core.stage import StageContext
from pipeline.data.arrow import Split
from pipeline.data.rendering.kept import own_template
from pipeline.data.writing import segments
from pipeline.stages.quantise_install import AGAIN, export_environment

_PROCESS = Path(__file__).with_name("quantise_process.py")
_TEMPLATE = "chat_template.jinja"
# llm-compressor's own note of what it did, with its defaults of the day; our manifest has it.
_LEFT_OUT = ("recipe.yaml",)


class Quantise:
    """Quantises all linear layers but the vocabulary head."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root (Model), data (Dataset that the model was trained on).

        Raises:
            EngineError: the environment is missing, or llm-compressor ended without an answer;
                its log is named.
            ModelError: a shape that the scheme cannot take.
            DataError: no training rows to calibrate with.
        """
        environment = export_environment()
        if not environment.is_current():
            raise EngineError(f"export: llm-compressor is not installed; run {AGAIN} first")
        rows = _drawn(inputs["data"].path, config) if config["scheme"] == "awq" else []
        wishes = {
            "model": str(inputs["root"].path),
            "out": str(context.out),
            "scheme": config["scheme"],
            "dtype": config["dtype"],
            "rows": rows,
            "threads": context.options.get("threads") or 1,
        }
        facts = _asked(environment.python, wishes, context.work)
        if "problem" in facts:
            raise ModelError(f"export.scheme: {config['scheme']}: {facts['problem']}; take fp8")
        for name in _LEFT_OUT:
            (context.out / name).unlink(missing_ok=True)
        template = own_template(inputs["data"].path)
        if template is not None:
            # The recipe's own: what its rows were rendered by is what it has to be asked by.
            shutil.copyfile(template, context.out / _TEMPLATE)
        return {**facts, "scheme": config["scheme"], "calibrated_on": len(rows)}


def _drawn(data: Path, config: Mapping[str, Any]) -> list[list[int]]:
    """Ids of training rows, each by itself, drawn by the seed."""
    split = Split(data / "train.arrow")
    if not len(split):
        raise DataError("export: the recipe has no training rows to calibrate with; take fp8")
    order = np.random.default_rng(config["seed"]).permutation(len(split))
    rows = (row for index in order for row in segments(split[int(index)]))
    return [[int(i) for i in row["input_ids"]] for row in islice(rows, config["calibration_rows"])]


def _asked(python: Path, wishes: Mapping[str, Any], work: Path) -> dict[str, Any]:
    answer, asked, log = (work / n for n in ("answer.json", "asked.json", "quantise.log"))
    answer.unlink(missing_ok=True)
    asked.write_text(json.dumps({**wishes, "answer": str(answer)}), encoding="utf-8")
    # Isolated: modules that lie beside the script have names of Python's own.
    command = [str(python), "-I", str(_PROCESS), str(asked)]
    variables = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
                 "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    with (
        log.open("w", encoding="utf-8") as stream,
        subprocess.Popen(
            # Its cwd is where it leaves logs of its own.
            command, stdin=subprocess.PIPE, stdout=stream, stderr=stream, cwd=work, env=variables
        ) as process,
    ):  # fmt: skip
        try:
            code = process.wait()
        finally:
            process.kill()
    if code != 0 or not answer.is_file():
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        errors = [line for line in lines if "Error" in line]
        last = next((line for line in reversed(errors or lines) if line), "no message")
        raise EngineError(f"export: llm-compressor ended with {code} ({last[:200]}); see {log}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found
