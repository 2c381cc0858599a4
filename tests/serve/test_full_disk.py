"""A full disk under usage and log, before a whole `gradus serve`: nobody who asks is told of it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from served import Served, served
from small_disk import fill, small_disk
from stub_engine import Stub

# No file of the process may grow beyond it, as on a disk without room: EFBIG (setrlimit(2)).
_NO_ROOM = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {most}))\n"


def asked(gateway: Served, times: int) -> None:
    """So many requests, each answered, and in its usual time."""
    for _ in range(times):
        began = time.monotonic()
        assert gateway.chat(stream=False).status_code == 200
        assert time.monotonic() - began < 2


def metric(gateway: Served, name: str) -> float:
    text = requests.get(f"{gateway.url}/metrics", timeout=5).text
    found = [line for line in text.splitlines() if line.startswith(name)]
    return float(found[0].split(" ")[-1]) if found else 0.0


def until(holds: Any, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)


def rows(place: Path) -> int:
    with closing(sqlite3.connect(place)) as connection:
        count: int = connection.execute("select count(*) from used").fetchone()[0]
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    return count


def whole(place: Path) -> int:
    """Lines of the log that are JSON."""
    found = 0
    for line in place.read_text().splitlines():
        try:
            found += isinstance(json.loads(line), dict)
        except ValueError:
            # Torn by the full disk: that one is counted as lost.
            continue
    return found


@contextmanager
def ended(gateway: Served) -> Iterator[list[str]]:
    """What the process said, once it has ended in order."""
    gateway.process.terminate()
    assert gateway.end() == 0
    yield [line.rstrip() for line in gateway.lines]


def test_a_disk_that_fills_up_fails_no_request_and_is_told_once(
    family: Any, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 256 << 10) as disk:
        usage, log = disk / "usage.db", disk / "access.jsonl"
        settings = {"usage_url": f"sqlite:///{usage}", "access_log": log}
        with served(family, 1, Stub(), **settings) as gateway:
            asked(gateway, 5)
            until(lambda: rows(usage) == 5)
            filler = fill(disk)
            asked(gateway, 120)
            # Longer than until the next try to write.
            time.sleep(1.0)
            until(lambda: metric(gateway, 'gradus_lost_total{what="log"}') > 0)
            assert metric(gateway, "gradus_usage_waiting") > 0
            assert metric(gateway, 'gradus_lost_total{what="usage"}') == 0
            filler.unlink()
            asked(gateway, 5)
            until(lambda: metric(gateway, "gradus_usage_waiting") == 0)
            lost = metric(gateway, 'gradus_lost_total{what="log"}')
            with ended(gateway) as said:
                assert rows(usage) == 130
                assert whole(log) == 130 - lost
                assert json.loads(log.read_text().splitlines()[-1])["status"] == 200
        assert sum("usage: cannot be written" in line for line in said) == 1
        assert "usage: is written again; 0 lost" in said
        (began,) = [line for line in said if line.startswith("log: cannot be written")]
        assert began.endswith("lines are lost until there is room")
        assert f"log: is written again; {lost:.0f} lost" in said


def test_a_disk_that_stays_full_loses_rows_beyond_the_bound_and_says_how_many(
    family: Any, tmp_path: Path
) -> None:
    """Where nothing may be mounted too: the process itself may write no larger files."""
    usage = tmp_path / "usage.db"
    # The database's files are made, and stay as they are: 32 KiB are less than a row needs.
    before = "import serve.usage; serve.usage._WAITING = 50\n" + _NO_ROOM.format(
        size=32_768, most=32_768
    )
    settings = {"usage_url": f"sqlite:///{usage}", "before": before}
    with served(family, 1, Stub(), **settings) as gateway:
        for _ in range(10):
            asked(gateway, 40)
            # Longer than from one try to write to the next.
            time.sleep(0.5)
        until(lambda: metric(gateway, 'gradus_lost_total{what="usage"}') > 0)
        lost, kept = metric(gateway, 'gradus_lost_total{what="usage"}'), rows(usage)
        with ended(gateway) as said:
            pass
        assert sum("usage: cannot be written" in line for line in said) == 1
        assert "usage: 50 rows wait; what comes now is lost" in said
        # Those that waited at the end too: what was not kept is told to the row.
        assert f"usage: over; {400 - kept} lost" in said
        assert 0 < lost <= 350


def test_a_log_that_takes_nothing_fails_no_request(family: Any) -> None:
    with served(family, 1, Stub(), access_log="/dev/full") as gateway:
        asked(gateway, 30)
        until(lambda: metric(gateway, 'gradus_lost_total{what="log"}') == 30)
        with ended(gateway) as said:
            pass
    told = [line for line in said if line.startswith("log: ")]
    assert told == [
        "log: cannot be written (No space left on device); lines are lost until there is room",
        "log: over; 30 lost",
    ]


@pytest.mark.parametrize("where", ["/dev/full", "a closed pipe"])
def test_stdout_and_stderr_on_a_full_disk_stop_nothing(
    family: Any, tmp_path: Path, where: str
) -> None:
    """A file of keys that is torn is told, and no request pays for a line that has no room."""
    from serve.keys import add_key

    keys = tmp_path / "keys.json"
    token, _ = add_key(keys, "ada")
    # After the line that says it is ready: then both go where nothing can be written.
    before = (
        "import os, sys, threading\n"
        f"goes = {where!r}\n"
        "def close():\n"
        "    sys.stdin.readline()\n"
        "    read, write = os.pipe(); os.close(read)\n"
        "    there = os.open(goes, os.O_WRONLY) if goes[0] == '/' else write\n"
        "    os.dup2(there, 1); os.dup2(there, 2)\n"
        "threading.Thread(target=close, daemon=True).start()\n"
    )
    with served(family, 1, Stub(), keys=keys, before=before, stdin=True) as gateway:
        assert gateway.process.stdin is not None
        # All of what it says when it is ready has been said.
        time.sleep(0.3)
        gateway.process.stdin.write("now\n")
        gateway.process.stdin.close()
        time.sleep(0.3)
        keys.write_text("{")
        for _ in range(4):
            time.sleep(0.3)
            body = {"model": "demo-l2", "messages": [{"role": "user", "content": "x"}]}
            answer = requests.post(
                f"{gateway.url}/v1/chat/completions", json=body, timeout=5,
                headers={"Authorization": f"Bearer {token}"},
            )  # fmt: skip
            assert answer.status_code == 200
        gateway.process.terminate()
        gateway.process.wait(10)
