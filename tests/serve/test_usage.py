"""Usage: every answered request once, on disk within a second, whatever the disk does."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from stub_engine import Stub

from pipeline.core.errors import UserError
from serve.usage import USED, UsageStore, Used

ASKED: Any = [{"role": "user", "content": "Hello there you"}]
ROOT = Path(__file__).resolve().parents[2]


def row(number: int, key: str = "k") -> Used:
    return Used(float(number), f"r{number}", key, "m", "v", "/v1/x", 3, 5, 200, 0.1, False)


def on_disk(place: Path) -> int:
    with sqlite3.connect(place) as connection:
        count: int = connection.execute("select count(*) from used").fetchone()[0]
    return count


def test_what_is_added_is_there_within_a_second_and_once(tmp_path: Path) -> None:
    place = tmp_path / "usage.db"
    store = UsageStore(f"sqlite:///{place}")
    store.start()
    for number in range(3000):
        store.add(row(number, f"k{number % 2}"))
    time.sleep(1.0)
    assert on_disk(place) == 3000
    assert [(t.name, t.requests, t.prompt_tokens) for t in store.totals()] == [
        ("k0", 1500, 4500), ("k1", 1500, 4500),
    ]  # fmt: skip
    assert store.totals("model", since=2999.0)[0].requests == 1
    store.close()
    assert on_disk(place) == 3000


def test_a_kill_loses_no_more_than_the_last_second(tmp_path: Path) -> None:
    place = tmp_path / "usage.db"
    code = (
        "import sys, time; from serve.usage import *\n"
        "s = UsageStore('sqlite:///' + sys.argv[1]); s.start()\n"
        "for n in range(100000):\n"
        " s.add(Used(time.time(), str(n), 'k', 'm', 'v', '/', 1, 1, 200, 0.1, False))\n"
        " print(n, time.time(), flush=True); time.sleep(0.005)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    time.sleep(4.0)
    os.kill(child.pid, signal.SIGKILL)
    killed = time.time()
    said = [line.split() for line in child.communicate()[0].splitlines()]
    old = sum(1 for line in said if len(line) == 2 and float(line[1]) < killed - 1.0)
    assert old > 100
    with sqlite3.connect(place) as connection:
        kept = {int(r[0]) for r in connection.execute("select request_id from used")}
    assert set(range(old)) <= kept


def test_a_locked_database_holds_nobody_up_and_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "usage.db"
    store = UsageStore(f"sqlite:///{place}")
    store.start()
    holder = sqlite3.connect(place)
    holder.execute("begin immediate")
    began = time.monotonic()
    for number in range(50):
        store.add(row(number))
    assert time.monotonic() - began < 0.2
    time.sleep(3.0)
    holder.rollback()
    holder.close()
    store.close()
    assert on_disk(place) == 50


def test_what_cannot_be_kept_is_counted_as_lost(tmp_path: Path) -> None:
    lost: list[str] = []
    store = UsageStore(f"sqlite:///{tmp_path / 'usage.db'}", lost.append)
    with sqlite3.connect(tmp_path / "usage.db") as connection:
        connection.execute("drop table used")
    store.start()
    store.add(row(1))
    store.close()
    assert lost == ["usage"]


@pytest.mark.parametrize(
    "url", ["nonsense", "nodb://u:hunter2@h/x", "sqlite:////proc/nowhere/usage.db"]
)
def test_a_database_that_is_none_is_told_without_its_password(url: str) -> None:
    with pytest.raises(UserError, match="--usage-db") as caught:
        UsageStore(url)
    assert "hunter2" not in str(caught.value)


def test_postgresql_takes_the_table() -> None:
    """Its dialect compiles it; no server was at hand."""
    made = str(CreateTable(USED).compile(dialect=postgresql.dialect()))
    assert "prompt_tokens BIGINT NOT NULL" in made


def test_the_gateway_counts_streams_as_the_engine_does(gateway: Any, tmp_path: Path) -> None:
    place = tmp_path / "usage.db"
    store = UsageStore(f"sqlite:///{place}")
    store.start()
    running = gateway(Stub(tokens=11), usage=store)
    client = running.client()
    whole = client.chat.completions.create(model="demo-l1", messages=ASKED)
    list(client.chat.completions.create(model="demo-l2", messages=ASKED, stream=True))
    assert whole.usage is not None
    store.close()
    with sqlite3.connect(place) as connection:
        rows = connection.execute(
            "select model, prompt_tokens, completion_tokens, status, stream from used"
        ).fetchall()
    said = whole.usage.prompt_tokens
    assert rows == [("demo-l1", said, 11, 200, 0), ("demo-l2", said, 11, 200, 1)]
