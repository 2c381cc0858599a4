"""Holds an engine on a lead: when its owner goes, however it goes, all of the engine goes.

Run as a program, never imported by the gateway: ``python launcher.py FOLDER SECONDS COMMAND...``.
Standard input is a pipe whose other end only the owner holds. The kernel closes that end
when the owner ends, by kill -9 too, and the launcher then stops the engine: SIGTERM, SECONDS
to finish, SIGKILL. vLLM is three processes and more, so the launcher also adopts
orphans (PR_SET_CHILD_SUBREAPER) and ends every descendant, whatever group it moved to.
At last it removes FOLDER, the engine's runtime folder.

Standard library only, so that it starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 8.0
PID_FILE = "engine.pid"
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """Run ``argv[2:]`` until it ends or the owner goes; remove the folder ``argv[0]``.

    What runs has ``argv[1]`` seconds to end.

    Returns:
        The engine's exit status, as a shell gives it.
    """
    folder, grace_s, command = argv[0], float(argv[1]), argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # A signal only wakes select(): the pipe's end and SIGTERM then take one road.
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, _ignore)
    try:
        # The engine's main process ends with this one, should this one be killed.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
        )
        # Should this process be killed, its owner ends the engine's group by this.
        Path(folder, PID_FILE).write_text(str(child.pid), encoding="ascii")
        _wait(child, wake_read)
        return _stop(child, grace_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ignore(_number: int, _frame: object) -> None:
    """Only there so that the default action does not happen."""


def _wait(child: subprocess.Popen[bytes], wake_read: int) -> None:
    """Until the child ends, the owner's pipe closes, or a stop signal comes."""
    stops = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    while child.poll() is None:
        ready, _, _ = select.select([sys.stdin, wake_read], [], [])
        if sys.stdin in ready and not os.read(0, 64):
            return
        if wake_read in ready and stops.intersection(os.read(wake_read, 64)):
            return


def _stop(child: subprocess.Popen[bytes], grace_s: float) -> int:
    if child.poll() is None:
        # To it alone: those below it would drop what is under way, and it ends them itself.
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    status = child.wait()
    _end_descendants()
    return status if status >= 0 else 128 - status


def _end_descendants() -> None:
    """Kill and reap until nothing is left: orphans come up to this process one by one."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline:
        for pid in _pids(children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _pids(children: Path) -> list[int]:
    try:
        return [int(pid) for pid in children.read_text().split()]
    except OSError:
        # Not Linux: the group was killed, and that must do.
        return []


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
