"""Trainings in processes of their own, which can be killed: forked from one that has imported all.

The processes and the SIGKILLs are real; only the seconds of importing torch are shared.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.training.trainee import TrainJob

_LIMIT_S = 60.0


@dataclass(frozen=True)
class Ended:
    """How the processes of a training ended.

    Attributes:
        codes: exit code by rank; negative: the signal.
        events: what the first process said; errors of all.
    """

    codes: list[int]
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = next(e["facts"] for e in self.events if "facts" in e)
        return found

    @property
    def messages(self) -> list[str]:
        return [e["message"] for e in self.events if "message" in e]

    @property
    def errors(self) -> list[tuple[str, str]]:
        return [(e["error"], e["text"]) for e in self.events if "error" in e]


class Forge:
    """Starts trainings; one at a time."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.forked"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def run(self, job: TrainJob, *, processes: int = 1, **how: Any) -> Ended:
        """Runs one training to its end, or to its kill.

        Args:
            how: ``kill``: (place, number[, rank]), see `_kill_at`; ``after_s``: kill all so long
                after the start; ``extra_bytes``: of address space beyond what is in use, on all
                or only on ``short_rank``;
                ``halve``: through the stage's own handling of memory.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"job": asdict(job), "processes": processes, **how}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _serve() -> None:
    for name in (
        "peft",
        "transformers",
        "pipeline.stages.train",
        "pipeline.training.loop",
        "pipeline.worker",
    ):
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(asdict(_training(json.loads(line)))), flush=True)


def _training(asked: dict[str, Any]) -> Ended:
    work = Path(asked["job"]["work"])
    job_file = work / "job.json"
    job_file.write_text(json.dumps(asked["job"]))
    world = asked["processes"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs = [work / f"events-{rank}.jsonl" for rank in range(world)]
    children: dict[int, int] = {}
    for rank in range(world):
        child = os.fork()
        if child == 0:
            _child(asked, job_file, logs[rank], rank, port)
        children[child] = rank
    codes = _ended(children, asked.get("after_s"))
    events = [json.loads(x) for log in logs for x in log.read_text().splitlines() if x[:1] == "{"]
    return Ended(codes, events)


def _ended(children: dict[int, int], after_s: float | None) -> list[int]:
    """Waits; one that is killed takes the others with it, as its machine would."""
    codes: dict[int, int] = {}
    began = time.monotonic()
    killed = False
    while len(codes) < len(children):
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            codes[children[child]] = os.waitstatus_to_exitcode(status)
        past = time.monotonic() - began
        over = past > _LIMIT_S or (after_s is not None and past > after_s)
        if not killed and (over or any(code < 0 for code in codes.values())):
            killed = True
            for other, rank in children.items():
                if rank not in codes:
                    os.kill(other, signal.SIGKILL)
        time.sleep(0.002)
    return [codes[rank] for rank in range(len(children))]


def _child(asked: dict[str, Any], job_file: Path, log: Path, rank: int, port: int) -> None:
    """One process of a training; does not come back."""
    code = 70
    faulthandler.dump_traceback_later(20, exit=False)
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        if asked["processes"] > 1:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(asked["processes"]),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
        if "kill" in asked and rank == (asked["kill"][2:] or [0])[0]:
            _kill_at(*asked["kill"][:2])
        if "extra_bytes" in asked and rank == asked.get("short_rank", rank):
            limit_memory(asked["extra_bytes"])
        code = _body(asked, job_file)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _body(asked: dict[str, Any], job_file: Path) -> int:
    from pipeline import worker
    from pipeline.stages.train import with_memory
    from pipeline.training import loop

    if asked.get("halve"):
        alone = loop.train
        loop.train = lambda job, say: dict(with_memory(job, say, alone))
    return worker.main(str(job_file))


def limit_memory(extra_bytes: int) -> None:
    """Lets this process take so much address space beyond what it has: malloc then fails."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _kill_at(place: str, number: int) -> None:
    """SIGKILL to this very process, the ``number``-th time that it comes by a place.

    update: after an update, before its checkpoint. draft: tensors written, no state.json.
    sealed: the draft whole, not yet renamed. renamed: renamed, the old ones not yet deleted.
    deleting: in the middle of deleting an old one. result: adapter written, no history.
    """
    from pipeline.training import checkpoint, curves, loop

    seen = 0

    def passing(name: str) -> None:
        nonlocal seen
        seen += name == place
        if seen == number and name == place:
            os.kill(os.getpid(), signal.SIGKILL)

    def after(owner: Any, name: str, where: str) -> None:
        original = getattr(owner, name)

        def called(*args: Any, **keys: Any) -> Any:
            found = original(*args, **keys)
            passing(where)
            return found

        setattr(owner, name, called)

    after(curves.Curves, "update", "update")
    after(checkpoint, "_write_own", "draft")
    after(loop, "write_result", "result")
    forget, remove = checkpoint.forget, checkpoint._remove

    def forgetting(folder: Path, after: int = -1) -> None:
        passing("renamed")
        forget(folder, after)

    def removing(path: Path) -> None:
        if path.exists():
            next(path.glob("rank-*")).unlink()
        passing("deleting" if path.exists() else "sealed")
        remove(path)

    checkpoint.forget = forgetting
    checkpoint._remove = removing


if __name__ == "__main__":
    _serve()
