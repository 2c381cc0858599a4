"""Asks a model the harness's tasks, and reads what it found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.batching import OnProgress
from eval.harness.install import harness_python
from eval.harness.suites import OwnTask, own_task
from eval.record import Prediction
from pipeline.core.errors import EngineError, UserError
from pipeline.core.model_config import read_config

_PROCESS = Path(__file__).with_name("process.py")
_CUT = "Truncating"
# "Running loglikelihood requests:  38%|███▊      | 17/45 [00:00<..."
_BAR = re.compile(rb"requests: +\d+%\|[^|]*\| (\d+)/(\d+) ")
_LOOKS_S, _TAIL = 1.0, 4096


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk, loaded by the harness's own HF backend.

    Attributes:
        root: folder of the whole weights.
        adapter: folder of the one adapter over it.
    """

    root: Path
    adapter: Path | None = None


@dataclass(frozen=True)
class Served:
    """A model behind an OpenAI-compatible endpoint.

    Attributes:
        url: ending in its version: ``http://127.0.0.1:8000/v1``.
        model: the name that is asked for.
        api_key: given to the harness by its environment, and written nowhere.
        tokenizer: folder of its tokenizer; None: the endpoint is asked, then the hub.
        concurrency: requests under way at once.
    """

    url: str
    model: str
    api_key: str | None = None
    tokenizer: Path | None = None
    concurrency: int = 16


@dataclass(frozen=True)
class HarnessRun:
    """What came out.

    Attributes:
        version: of the harness.
        tasks: task (or group) to ``figures`` (as the harness names them), ``items``, ``shots``,
            ``version`` and ``chat_template``: whether it was asked through one.
        answers: own suite to its items' answers, with the harness's log-likelihoods.
        notes: what a reader should know, a line each.
        folder: where samples and log lie.
    """

    version: str
    tasks: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, Sequence[Prediction]]
    folder: Path
    seconds: float
    notes: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """Figures as JSON values, without the items."""
        return {
            "harness": self.version,
            "tasks": {name: dict(found) for name, found in self.tasks.items()},
            "seconds": self.seconds,
            "notes": list(self.notes),
        }


def run_harness(
    target: Checkpoint | Served,
    tasks: Sequence[str],
    *,
    out: Path,
    suites: Mapping[str, Path] | None = None,
    limit: int | None = None,
    shots: int | None = None,
    batch_size: int = 16,
    echo: Callable[[str], None] = print,
    on_progress: OnProgress | None = None,
) -> HarnessRun:
    """Evaluates a model on known benchmarks and on a recipe's own rows, by lm-evaluation-harness.

    The harness runs in a process of its own, in an environment of its own that is made the
    first time. A checkpoint is scored in float32 on a CPU and in bfloat16 on a GPU, as our own
    arms score it. Tasks that only write are asked through the chat template where there is one;
    tasks that score continuations are asked in plain text, as they are published.

    Args:
        target: the model.
        tasks: names of the harness's tasks or groups, or YAML files of tasks; those of
            ``suites`` are our own.
        out: a folder for samples, results and the log; made where it is not there.
        suites: name to prepared Dataset, each a task of that name: arm `likelihood` in the
            harness's hands. Served models need ``target.tokenizer`` for them.
        limit: at most so many items of each task: of its own tasks the first, of our rows
            drawn ones.
        shots: rows that are shown before each item; None: as each task has it. Own suites
            show none.
        batch_size: of a checkpoint.
        echo: told each step.
        on_progress: called about once a second with (requests done, requests in all).

    Returns:
        Figures of all tasks, and the answers of own suites. ``harness.json`` and
        ``samples-TASK.jsonl`` lie in ``out``.

    Raises:
        UserError: no such task, one whose data is not to be had here, or rows that make none.
        EngineError: the harness cannot be installed, or died; its log is named.
    """
    if not tasks:
        raise UserError("--harness: names no task; give one, such as hellaswag")
    python = harness_python(echo)
    out.mkdir(parents=True, exist_ok=True)
    (out / "harness.log").unlink(missing_ok=True)
    ours = {name: folder for name, folder in (suites or {}).items() if name in tasks}
    parts: list[dict[str, Any]] = []
    known = [name for name in tasks if name not in ours]
    common: dict[str, Any] = {
        "limit": limit,
        "shots": shots,
        "batch_size": batch_size,
        "model": _model(target),
    }
    if known:
        echo(f"harness: asking {', '.join(known)}; log: {out / 'harness.log'}")
        wishes = {**common, "tasks": known, "include": None, "ids": False}
        parts.append(_process(python, wishes, out, target, suites or {}, on_progress))
    answers: dict[str, list[Prediction]] = {}
    if ours:
        made = _own_tasks(target, ours, limit, out / "tasks", (suites or {}).get("test"))
        echo(f"harness: asking {', '.join(ours)}, rows of our own; log: {out / 'harness.log'}")
        wishes = {
            **common,
            "tasks": [task.name for task in made],
            "include": str(out / "tasks"),
            "ids": True,
            "shots": None,
        }
        parts.append(_process(python, wishes, out, target, {}, on_progress))
        for task in made:
            samples = parts[-1]["samples"][task.name]
            answers[task.suite] = task.predictions(samples, parts[-1]["seconds"])
    run = HarnessRun(
        version=parts[0]["version"],
        tasks={name.removeprefix("gradus_"): f for p in parts for name, f in p["results"].items()},
        answers=answers,
        folder=out,
        seconds=round(sum(part["seconds"] for part in parts), 2),
        notes=_notes(out),
    )
    _write(out, run, parts)
    return run


def _own_tasks(
    target: Checkpoint | Served,
    ours: Mapping[str, Path],
    limit: int | None,
    folder: Path,
    train: Path | None,
) -> list[OwnTask]:
    tokenizer = target.root if isinstance(target, Checkpoint) else target.tokenizer
    if tokenizer is None:
        raise UserError(
            "--harness: our own rows are asked by ids, and nobody tells the served model's "
            "tokenizer; give --recipe RECIPE"
        )
    context = None
    if isinstance(target, Checkpoint):
        context = read_config(target.root).get("max_position_embeddings")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = []
    for name, data in ours.items():
        task = own_task(name, data, tokenizer, limit, context=context, train=train)
        task.write(folder)
        found.append(task)
    return found


def _model(target: Checkpoint | Served) -> dict[str, Any]:
    if isinstance(target, Served):
        tokenizer = None if target.tokenizer is None else str(target.tokenizer)
        return {
            "kind": "served", "url": target.url.rstrip("/"), "model": target.model,
            "tokenizer": tokenizer, "concurrency": target.concurrency,
        }  # fmt: skip
    import torch

    on_gpu = torch.cuda.is_available()
    return {
        "kind": "checkpoint",
        "root": str(target.root),
        "adapter": None if target.adapter is None else str(target.adapter),
        "dtype": "bfloat16" if on_gpu else "float32",
        "device": "cuda" if on_gpu else "cpu",
    }


def _process(
    python: Path,
    wishes: Mapping[str, Any],
    out: Path,
    target: Checkpoint | Served,
    suites: Mapping[str, Path],
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    """One run of the harness's own process."""
    answer, asked = out / "answer.json", out / "asked.json"
    answer.unlink(missing_ok=True)
    asked.write_text(json.dumps({**wishes, "answer": str(answer)}), encoding="utf-8")
    log = out / "harness.log"
    # Isolated: modules that lie beside the script have names of Python's own.
    command = [str(python), "-I", str(_PROCESS), str(asked)]
    with (
        log.open("a", encoding="utf-8") as stream,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stream, stderr=stream,
            env=_environment(wishes, out, target),
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


def _environment(
    wishes: Mapping[str, Any], out: Path, target: Checkpoint | Served
) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
    kept["TOKENIZERS_PARALLELISM"] = "false"
    if isinstance(target, Served) and target.api_key:
        kept["OPENAI_API_KEY"] = target.api_key
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


def _notes(out: Path) -> tuple[str, ...]:
    log = (out / "harness.log").read_text(encoding="utf-8", errors="replace")
    cut = log.count(_CUT)
    return (f"{cut} requests were longer than the model's context, and were cut",) if cut else ()


def _write(out: Path, run: HarnessRun, parts: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps(run.to_json(), indent=1, ensure_ascii=False)
    (out / "harness.json").write_text(text + "\n", encoding="utf-8")
    for part in parts:
        for name, samples in part["samples"].items():
            with (out / f"samples-{name}.jsonl").open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in samples)
    shutil.rmtree(out / "tasks" / "cache", ignore_errors=True)
