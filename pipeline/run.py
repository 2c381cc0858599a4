"""Executes a plan: what is made is found, what is missing runs, side by side where it can."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from typing import Any

from pipeline.core import errors
from pipeline.core.artifact import Artifact
from pipeline.core.store import Store, disk_errors
from pipeline.plan import Node, Plan
from pipeline.process import Job, stage_process

Event = Mapping[str, Any]
OnFailure = Callable[[str, errors.GradusError], bool]
_TRAINS = ("train", "evaluate")


@dataclass(frozen=True)
class RunRecord:
    """What a run did.

    Attributes:
        ran: node id to seconds.
        hits: ids of nodes found in the store.
    """

    ran: Mapping[str, float]
    hits: tuple[str, ...]
    seconds: float
    jobs: int


@dataclass
class _Worker:
    """A stage process and what it is at."""

    pipe: connection.Connection
    process: Any
    node: Node | None = None
    began: float = 0.0


@dataclass
class _Progress:
    done: dict[str, Artifact] = field(default_factory=dict)
    ran: dict[str, float] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def default_jobs(plan: Plan) -> int:
    """How many stages run side by side: trainings of the plan, at most one to a core.

    With a GPU one at a time: each takes the device for itself.
    """
    from pipeline.core.gpus import gpu_count

    return 1 if gpu_count() else max(1, min(usable_cores(), plan.width()))


def execute(
    plan: Plan,
    store: Store,
    *,
    jobs: int | None = None,
    on_event: Callable[[Event], None] = lambda _event: None,
    on_failure: OnFailure | None = None,
    pool: StagePool | None = None,
) -> RunRecord:
    """Runs what is missing.

    Args:
        jobs: stage processes; each gets an equal share of the cores, but a training beside which
            no other could run gets all of them.
        on_event: takes {node, kind: started|progress|finished|waiting|failed|dropped, ...};
            what stands on a failed node is dropped.
        on_failure: takes a node and what its stage reported, and says whether the rest runs on
            without it and what stands on it; None: it never does.
        pool: stage processes to use, instead of new ones for this call alone.

    Raises:
        GradusError: of the stage that failed; the others are stopped.
    """
    began = time.monotonic()
    wanted = plan.wanted(store)
    blocked = next((node for node in wanted if node.blocked), None)
    if blocked is not None:
        raise errors.UserError(f"{blocked.id}: cannot run: {blocked.blocked}")
    # Only now: what is refused leaves nothing behind.
    store.digests.save()
    jobs = pool.jobs if pool is not None else jobs or default_jobs(plan)
    state = _Progress()
    missing = {node.id for node in wanted}
    for node in plan.nodes.values():
        if node.id not in missing and node.key is not None:
            artifact = store.get(node.key)
            if artifact is not None:
                state.done[node.id] = artifact
                state.hits.append(node.id)
    if wanted:
        share = max(1, usable_cores() // jobs)
        # Of plans that share stage processes nobody knows what runs beside a training.
        lone = plan.lone() if pool is None else frozenset()
        threads = {node.id: usable_cores() if node.id in lone else share for node in wanted}
        own = contextlib.nullcontext(pool) if pool is not None else stage_pool(jobs)
        with disk_errors(store.root), own as workers:
            _schedule(wanted, state, workers, store, threads, on_event, on_failure)
    return RunRecord(state.ran, tuple(state.hits), time.monotonic() - began, jobs)


@contextlib.contextmanager
def stage_pool(jobs: int) -> Iterator[StagePool]:
    """Stage processes that live for the whole run: libraries are imported once."""
    context = get_context("spawn")
    workers: list[_Worker] = []

    def grow() -> _Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=stage_process, args=(theirs, os.getpid()))
        process.start()
        theirs.close()
        workers.append(_Worker(ours, process))
        return workers[-1]

    try:
        yield StagePool(workers, grow, jobs)
    finally:
        for worker in workers:
            worker.pipe.close()
            if worker.node is not None:
                worker.process.terminate()
        # Those without work end by themselves when the pipe closes, and tidy up after what they
        # loaded.
        for worker in workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()


@dataclass(frozen=True)
class StagePool:
    """Stage processes, at most ``jobs`` of them."""

    workers: list[_Worker]
    grow: Callable[[], _Worker]
    jobs: int

    def free(self) -> _Worker | None:
        """A worker without work; a new one while there are fewer than jobs."""
        for worker in self.workers:
            if worker.node is None:
                return worker
        return self.grow() if len(self.workers) < self.jobs else None


def _schedule(
    wanted: Sequence[Node],
    state: _Progress,
    pool: StagePool,
    store: Store,
    threads: Mapping[str, int],
    on_event: Callable[[Event], None],
    on_failure: OnFailure | None,
) -> None:
    # Rows first: what is wrong with them is found before an hour of training, not after.
    waiting = sorted(wanted, key=lambda node: node.stage.startswith(_TRAINS))
    while waiting or any(w.node for w in pool.workers):
        for node in list(waiting):
            if state.lost & set(node.inputs.values()):
                state.lost.add(node.id)
                waiting.remove(node)
                on_event({"node": node.id, "kind": "dropped"})
                continue
            if not all(i in state.done for i in node.inputs.values()):
                continue
            worker = pool.free()
            if worker is None:
                break
            waiting.remove(node)
            _start(worker, node, state, store, threads[node.id])
            on_event({"node": node.id, "kind": "started"})
        busy = {w.pipe: w for w in pool.workers if w.node is not None}
        # What stood on a lost stage may have been all that was left: nobody would answer.
        for pipe in connection.wait(list(busy)) if busy else ():
            try:
                _receive(busy[pipe], state, store, on_event)  # type: ignore[index]
            except errors.GradusError as error:
                # Without a node it is no answer of a stage: its process died, or a defect.
                if error.node is None or on_failure is None or not on_failure(error.node, error):
                    raise
                state.lost.add(error.node)
                on_event({"node": error.node, "kind": "failed", "problem": str(error)})


def _start(worker: _Worker, node: Node, state: _Progress, store: Store, threads: int) -> None:
    assert node.key is not None
    job = Job(
        node=node.id,
        stage=node.stage,
        key=node.key,
        config=dict(node.config),
        inputs={role: state.done[i].key for role, i in node.inputs.items()},
        files={role: str(path) for role, path in node.files.items()},
        options={
            **node.options,
            "threads": threads,
            "trackers": str(store.root / "trackers"),
            "run_name": f"{node.id}-{node.key[:8]}",
        },
        store=str(store.root),
    )
    worker.node, worker.began = node, time.monotonic()
    worker.pipe.send(job)


def _receive(
    worker: _Worker, state: _Progress, store: Store, on_event: Callable[[Event], None]
) -> None:
    node = worker.node
    assert node is not None
    assert node.key is not None
    try:
        event = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join(2)
        raise errors.TrainingError(
            f"{node.id}: its process died (exit code {worker.process.exitcode}; -9 may be the "
            "kernel short of memory); run again: it goes on from the last whole step"
        ) from None
    if event["kind"] == "error":
        known = getattr(errors, event["error"], None)
        if known is None:
            raise errors.GradusError(f"{node.id}: a defect of gradus: {event['text']}")
        error: errors.GradusError = known(event["text"])
        error.node = node.id
        worker.node = None
        raise error
    if event["kind"] == "done":
        seconds = time.monotonic() - worker.began
        worker.node = None
        state.done[node.id] = store.need(node.key)
        state.ran[node.id] = round(seconds, 2)
        on_event({"node": node.id, "kind": "finished", "seconds": seconds})
    else:
        on_event({"node": node.id, **event})
