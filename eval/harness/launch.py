"""The harness's own process: started, watched, and read when it has ended."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.batching import OnProgress
from eval.harness.known import known_file
from pipeline.core.errors import EngineError, UserError

_PROCESS = Path(__file__).with_name("process.py")
# "Running loglikelihood requests:  38%|███▊      | 17/45 [00:00<..."
_BAR = re.compile(rb"requests: +\d+%\|[^|]*\| (\d+)/(\d+) ")
_LOOKS_S, _TAIL = 1.0, 4096


def ask_process(
    python: Path,
    wishes: Mapping[str, Any],
    out: Path,
    api_key: str | None,
    suites: Mapping[str, Path],
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    """One run of the harness's own process.

    Args:
        python: of its environment.
        wishes: ``tasks``, ``model``, ``limit``, ``shots``, ``batch_size``, ``include``, ``ids``.
        out: a folder for its log and its answers.
        api_key: of a served model; it stands in the environment alone.
        suites: rows of our own, which a message may name.
        on_progress: see ``run_harness``.

    Returns:
        ``version``, ``results``, ``samples`` and ``seconds``.

    Raises:
        UserError: no such task, or one whose data is not to be had here.
        EngineError: it died; its log is named.
    """
    answer, asked = out / "answer.json", out / "asked.json"
    answer.unlink(missing_ok=True)
    told = {**wishes, "answer": str(answer), "known": str(known_file(out, wishes))}
    asked.write_text(json.dumps(told), encoding="utf-8")
    log = out / "harness.log"
    # Isolated: modules that lie beside the script have names of Python's own.
    command = [str(python), "-I", str(_PROCESS), str(asked)]
    with (
        log.open("a", encoding="utf-8") as stream,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stream, stderr=stream,
            env=_environment(wishes, out, api_key),
        ) as process,
    ):  # fmt: skip
        try:
            code = _watched(process, log, on_progress)
        finally:
            process.kill()
    if code != 0 or not answer.is_file():
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        errors = [line for line in lines if "Error" in line]
        last = next((line for line in reversed(errors or lines) if line), "no message")
        raise EngineError(f"harness: it ended with {code} ({last[:200]}); see {log}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    answer.unlink()
    asked.unlink()
    if "problem" in found:
        raise _problem(found["problem"], suites)
    return found


def _watched(process: subprocess.Popen[bytes], log: Path, on_progress: OnProgress | None) -> int:
    """Waits for its end, and reads its progress off the bars that it writes."""
    while True:
        try:
            return process.wait(_LOOKS_S)
        except subprocess.TimeoutExpired:
            with log.open("rb") as stream:
                stream.seek(max(0, log.stat().st_size - _TAIL))
                told = _BAR.findall(stream.read())
            if told and on_progress is not None:
                on_progress(int(told[-1][0]), int(told[-1][1]))


def _environment(wishes: Mapping[str, Any], out: Path, api_key: str | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
    kept["TOKENIZERS_PARALLELISM"] = "false"
    if api_key:
        kept["OPENAI_API_KEY"] = api_key
    if wishes["ids"]:
        # Our own rows lie here: no hub is asked, and no copy stays in the user's cache.
        kept |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
                 "HF_DATASETS_CACHE": str(out / "tasks" / "cache")}  # fmt: skip
    return kept


def _problem(problem: Mapping[str, str], suites: Mapping[str, Path]) -> UserError:
    name = problem["task"]
    if problem["kind"] == "unknown":
        own = f" (rows of our own: {', '.join(suites)})" if suites else ""
        return UserError(
            f"--harness {name}: lm-evaluation-harness has no such task{own}; its tasks are "
            "listed by `lm-eval ls tasks` in its environment, and a task of your own is a YAML file"
        )
    return UserError(
        f"--harness {name}: its data is not to be had here ({problem['text']}); run it where the "
        "hub can be reached, or take a task whose data lies here"
    )
