"""Asks a model the harness's tasks, and reads what it found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eval.batching import OnProgress
from eval.harness.install import harness_python
from eval.harness.known import forget, require_settled, taken_over
from eval.harness.launch import ask_process
from eval.harness.suites import OwnTask, own_task
from eval.record import Prediction
from pipeline.core.errors import UserError
from pipeline.core.model_config import read_config

_CUT = "Truncating"


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
    earlier: Literal["check", "keep", "drop"] = "check",
    echo: Callable[[str], None] = print,
    on_progress: OnProgress | None = None,
) -> HarnessRun:
    """Evaluates a model on known benchmarks and on a recipe's own rows, by lm-evaluation-harness.

    The harness runs in a process of its own, in an environment of its own that is made the
    first time. A checkpoint is scored in float32 on a CPU and in bfloat16 on a GPU, as our own
    arms score it. Tasks that only write are asked through the chat template where there is one;
    tasks that score continuations are asked in plain text, as they are published. Answers that
    a run had before it was stopped stand in its folder ``out``, and are not asked for again: of
    a checkpoint, for they are known by its weights; of a served model as ``earlier`` says.

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
        earlier: of a served model, what becomes of answers of a run that was stopped: with
            "check" they are refused with a word on how to go on, as nobody can tell which
            weights gave them; taken as they are; asked anew.
        echo: told each step.
        on_progress: called about once a second with (requests done, requests in all).

    Returns:
        Figures of all tasks, and the answers of own suites. ``harness.json`` and
        ``samples-TASK.jsonl`` lie in ``out``.

    Raises:
        UserError: no such task, one whose data is not to be had here, rows that make none, or
            answers of a served model from a run that was stopped.
        EngineError: the harness cannot be installed, or died; its log is named.
    """
    if not tasks:
        raise UserError("--harness: names no task; give one, such as hellaswag")
    python = harness_python(echo)
    out.mkdir(parents=True, exist_ok=True)
    model = _model(target)
    if isinstance(target, Served) and earlier == "check":
        require_settled(out, model)
    elif isinstance(target, Served) and earlier == "drop":
        forget(out)
    (out / "harness.log").unlink(missing_ok=True)
    ours = {name: folder for name, folder in (suites or {}).items() if name in tasks}
    key = target.api_key if isinstance(target, Served) else None
    parts: list[dict[str, Any]] = []
    known = [name for name in tasks if name not in ours]
    common: dict[str, Any] = {
        "limit": limit,
        "shots": shots,
        "batch_size": batch_size,
        "model": model,
    }
    if known:
        echo(f"harness: asking {', '.join(known)}; log: {out / 'harness.log'}")
        wishes = {**common, "tasks": known, "include": None, "ids": False}
        parts.append(ask_process(python, wishes, out, key, suites or {}, on_progress))
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
        parts.append(ask_process(python, wishes, out, key, {}, on_progress))
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


def _notes(out: Path) -> tuple[str, ...]:
    log = (out / "harness.log").read_text(encoding="utf-8", errors="replace")
    cut, known = log.count(_CUT), taken_over(log)
    notes = [f"{cut} requests were longer than the model's context, and were cut"] * bool(cut)
    if known:
        notes.append(f"{known} answers are of a run that was stopped before its end")
    return tuple(notes)


def _write(out: Path, run: HarnessRun, parts: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps(run.to_json(), indent=1, ensure_ascii=False)
    (out / "harness.json").write_text(text + "\n", encoding="utf-8")
    for part in parts:
        for name, samples in part["samples"].items():
            with (out / f"samples-{name}.jsonl").open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in samples)
    shutil.rmtree(out / "tasks" / "cache", ignore_errors=True)
    forget(out)
