"""A stage process: takes jobs, makes artifacts, dies with its parent."""

from __future__ import annotations

import logging
import os
import platform
import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact, Manifest
from pipeline.core.digest import DigestCache
from pipeline.core.errors import GradusError, IntegrityError
from pipeline.core.lifeline import die_with_parent
from pipeline.core.stage import STAGES, StageContext
from pipeline.core.store import Store, disk_errors

_EVENTS_A_SECOND = 10


@dataclass(frozen=True)
class Job:
    """One node, with keys in place of node ids."""

    node: str
    stage: str
    key: str
    config: dict[str, Any]
    inputs: dict[str, str]
    files: dict[str, str]
    options: dict[str, Any]
    store: str


def stage_process(pipe: Connection, parent: int) -> None:
    """The body of a stage process: jobs in, events out, until the pipe closes."""
    die_with_parent(parent)
    # ctrl-C is the parent's to handle: it stops us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Spinning threads starve each other where stages share the cores: measured 6 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Bars of libraries would be drawn over ours.
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Says at each import that an optional kernel is absent; nothing of ours uses it.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            make(job, lambda event: pipe.send({"kind": "progress", **event}))
            pipe.send({"kind": "done"})
        except GradusError as error:
            pipe.send({"kind": "error", "error": type(error).__name__, "text": str(error)})
        except Exception as error:
            text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
            pipe.send({"kind": "error", "error": "", "text": text})


def make(job: Job, send: Any) -> Artifact:
    """Makes the artifact of a job, or finds it made by another process meanwhile."""
    store = Store(Path(job.store))
    last = [0.0]

    def progress(event: Mapping[str, Any]) -> None:
        now = time.monotonic()
        final = event.get("step") == event.get("total") or "message" in event
        if final or now - last[0] >= 1 / _EVENTS_A_SECOND:
            last[0] = now
            send(dict(event))

    def on_wait(holder: str) -> None:
        send({"message": f"waits for {holder}, which makes the same"})

    with disk_errors(store.root), store.locked(job.key, on_wait):
        found = store.get(job.key)
        if found is not None:
            return found
        _set_threads(job)
        return _run(job, store, progress)


def _run(job: Job, store: Store, progress: Any) -> Artifact:
    info = STAGES[job.stage]
    inputs = {role: store.need(key) for role, key in job.inputs.items()}
    for artifact in inputs.values():
        artifact.require_whole()
    files = {role: Path(path) for role, path in job.files.items()}
    digests = DigestCache(store.root / "digests.json")
    before = {role: digests.of(path) for role, path in files.items()}
    draft = store.new_draft(job.key)
    context = StageContext(
        out=draft,
        work=store.work_dir(job.key),
        options=job.options,
        files=files,
        progress=progress,
        count_look=store.count_look,
    )
    began = time.time()
    facts = info.load().run(inputs, job.config, context)
    after = {role: digests.of(path) for role, path in files.items()}
    changed = [role for role in files if before[role] != after[role]]
    if changed:
        raise IntegrityError(f"{files[changed[0]]}: changed while it was read; run again")
    manifest = Manifest(
        kind=info.output,
        key=job.key,
        digest="",
        stage=job.stage,
        stage_version=info.version,
        config=job.config,
        packages=info.package_versions(),
        inputs={r: {"key": a.key, "digest": a.digest} for r, a in inputs.items()},
        local_files=before,
        files={},
        facts=dict(facts),
        run={
            "node": job.node,
            "seconds": round(time.time() - began, 2),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "hardware": hardware(),
            "threads": job.options.get("threads"),
            "git": git_revision(),
        },
    )
    return store.commit(draft, manifest)


def _set_threads(job: Job) -> None:
    threads = job.options.get("threads")
    if threads and STAGES[job.stage].packages[:1] == ("torch",):
        import torch

        torch.set_num_threads(int(threads))


def hardware() -> dict[str, Any]:
    """Processor, cores and operating system, for run records."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        model = platform.machine()
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def git_revision() -> str | None:
    """The checkout's commit, read from .git without starting git; None outside one."""
    root = Path(__file__).resolve().parent.parent / ".git"
    try:
        head = (root / "HEAD").read_text().strip()
        if head.startswith("ref: "):
            return (root / head[5:]).read_text().strip()[:12]
    except OSError:
        return None
    return head[:12]
