"""What goes wrong is told once, and at nobody's cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serve.telling import Outage, tell

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def outage(said: list[str], lost: list[str], clock: Clock) -> Outage:
    return Outage("usage", "rows wait", lost.append, said.append, clock)


def test_an_outage_is_two_lines_however_many_writes_fail() -> None:
    said, lost = list[str](), list[str]()
    found = outage(said, lost, Clock())
    found.ends()
    for _ in range(1000):
        found.begins("No space left on device")
    for _ in range(7):
        found.loses(full="100 rows wait")
    found.ends()
    found.ends()
    assert said == [
        "usage: cannot be written (No space left on device); rows wait",
        "usage: 100 rows wait; what comes now is lost",
        "usage: is written again; 7 lost",
    ]
    assert lost == ["usage"] * 7


def test_outages_that_come_and_go_are_told_once_a_minute_and_no_loss_is_left_out() -> None:
    said, clock = list[str](), Clock()
    found = outage(said, [], clock)
    for second in range(125):
        clock.now = float(second)
        found.begins("full")
        found.loses()
        found.ends()
    found.closes(3)
    begun = [line for line in said if "cannot be written" in line]
    assert len(begun) == 3
    told = [int(line.split("; ")[1].split(" ")[0]) for line in said if line.endswith(" lost")]
    assert sum(told) == 125 + 3


def test_what_is_left_at_the_end_is_told_and_nothing_where_all_was_written() -> None:
    said = list[str]()
    outage(said, [], Clock()).closes(0)
    assert said == []
    outage(said, [], Clock()).closes(2)
    assert said == ["usage: over; 2 lost"]


_TELLS = """\
import sys, time
from serve.telling import tell
began = time.monotonic()
for number in range(3000): tell(f"{number} " + "x" * 200)
print(time.monotonic() - began, flush=True)
sys.stdin.read()
"""


def test_a_reader_of_stderr_that_has_stopped_is_not_waited_for() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _TELLS], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    # A pipe holds 64 KiB of these 600 kB.
    assert float(child.stdout.readline()) < 2.0
    _, told = child.communicate(timeout=20)
    assert told.startswith("0 xxx")
    # Whole lines, as many as there was room for.
    assert all(len(line.split(" ")[1]) == 200 for line in told.splitlines())


@pytest.mark.parametrize("where", ["/dev/full", None])
def test_stderr_that_takes_nothing_fails_nobody(where: str | None) -> None:
    code = "from serve.telling import tell\ntell('x')\nprint('went on')"
    shell = f"exec 2>{where}" if where else "exec 2>&-"
    done = subprocess.run(
        ["bash", "-c", f'{shell}; exec "$0" -c "$1"', sys.executable, code],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    assert done.stdout == "went on\n"


def test_it_is_a_line_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    tell("engine vllm: fell; \ud800")
    assert capfd.readouterr().err == "engine vllm: fell; ?\n"
