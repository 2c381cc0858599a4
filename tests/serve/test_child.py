"""No process of an engine outlives its owner; here the engine is a shell script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from serve.child import Child

# Three generations: one left its group and session, and one does not hear SIGTERM.
SCRIPT = """
setsid sleep 600 &
(trap '' TERM; while :; do sleep 1; done) &
echo up
sleep 600
"""
OWNER = """
import signal, sys, time
from serve.child import Child, clean_environment
# Under nohup a hang-up is ignored, and children inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
child = Child("stub")
child.start(["bash", "-c", sys.argv[1]], clean_environment())
print(child.pid, child.folder, flush=True)
time.sleep(600)
"""


def await_count(descendants: Any, pid: int, count: int) -> set[tuple[int, str]]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found: set[tuple[int, str]] = descendants(pid)
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"only {descendants(pid)} came up")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_nothing_outlives_an_owner_that_a_signal_ends(
    descendants: Any, await_gone: Any, number: int
) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, SCRIPT],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().split()[1])
    processes = await_count(descendants, owner.pid, 5)
    owner.send_signal(number)
    owner.wait()
    owner.stdout.close()
    await_gone(processes, 12)
    assert not folder.exists()


def test_nothing_outlives_stop(descendants: Any, await_gone: Any) -> None:
    child = Child("stub")
    child.start(["bash", "-c", SCRIPT], os.environ)
    processes = await_count(descendants, child.pid or 0, 4)
    child.stop()
    await_gone(processes, 0.5)
    assert not child.folder.exists()
    assert child.log_tail() == "up"
    child.stop()


def test_a_child_that_dies_leaves_its_last_words() -> None:
    child = Child("stub")
    child.start(["bash", "-c", "echo the reason; exit 7"], os.environ)
    deadline = time.monotonic() + 10
    while child.alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not child.alive()
    assert child.log_tail() == "the reason"
    child.stop()


def test_an_engine_whose_launcher_is_killed_ends_with_the_child(
    descendants: Any, await_gone: Any
) -> None:
    child = Child("stub")
    child.start(
        ["bash", "-c", "trap '' TERM; while :; do sleep 1; done"], {"PATH": os.environ["PATH"]}
    )
    assert child.pid is not None
    processes = await_count(descendants, child.pid, 1)
    deadline = time.monotonic() + 10
    while not (child.folder / "engine.pid").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.stop()
    await_gone(processes, 10)
