"""Usage: every answered request once, on disk within a second, whatever the disk does."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_disk import fill, small_disk
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateTable
from stub_engine import Stub

from pipeline.core.errors import UserError
from serve.usage import USED, UsageStore, _insert
from serve.used import Used

ASKED: Any = [{"role": "user", "content": "Hello there you"}]
ROOT = Path(__file__).resolve().parents[2]


def row(number: int, key: str = "k") -> Used:
    return Used(float(number), f"r{number}", key, "m", "v", "/v1/x", 3, 5, 200, 0.1, False)


def on_disk(place: Path) -> int:
    with closing(sqlite3.connect(place)) as connection:
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
    with closing(sqlite3.connect(place)) as connection:
        kept = {int(r[0]) for r in connection.execute("select request_id from used")}
    assert set(range(old)) <= kept


_ADDS = """\
import sys, time
from serve.usage import UsageStore
from serve.used import Used
store = UsageStore("sqlite:///" + sys.argv[1]); store.start()
for n in range(500):
    store.add(Used(1.0, sys.argv[2] + str(n), "k", "m", "v", "/", 1, 2, 200, 0.1, False))
    time.sleep(0.002)
store.close()
"""


def test_processes_that_start_at_once_write_one_file(tmp_path: Path) -> None:
    place = tmp_path / "usage.db"
    writers = [
        subprocess.Popen([sys.executable, "-c", _ADDS, str(place), name], cwd=ROOT)
        for name in ("a", "b", "c")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with closing(sqlite3.connect(place)) as connection:
        found = connection.execute(
            "select count(*), count(distinct request_id), sum(completion_tokens) from used"
        ).fetchone()
    assert found == (1500, 1500, 3000)
    (total,) = UsageStore(f"sqlite:///{place}").totals()
    assert (total.requests, total.prompt_tokens, total.completion_tokens) == (1500, 1500, 3000)


def test_a_full_disk_loses_nothing_that_memory_holds(tmp_path: Path) -> None:
    lost: list[str] = []
    with small_disk(tmp_path / "disk", 512 << 10) as disk:
        place = disk / "usage.db"
        store = UsageStore(f"sqlite:///{place}", lost.append)
        store.start()
        store.add(row(0))
        time.sleep(1.0)
        filler = fill(disk)
        began = time.monotonic()
        for number in range(1, 2001):
            store.add(row(number))
        assert time.monotonic() - began < 0.2
        time.sleep(1.5)
        assert store.waiting() > 0
        filler.unlink()
        store.close()
        assert (on_disk(place), lost) == (2001, [])
        with closing(sqlite3.connect(place)) as connection:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_row_that_no_database_takes_is_lost_alone(tmp_path: Path) -> None:
    lost: list[str] = []
    place = tmp_path / "usage.db"
    store = UsageStore(f"sqlite:///{place}", lost.append)
    bad = {7: row(7)._replace(prompt_tokens=1 << 80), 90: row(90)._replace(model="\ud800")}
    for number in range(200):
        store.add(bad.get(number, row(number)))
    store.start()
    store.close()
    assert (on_disk(place), lost) == (198, ["usage", "usage"])


def test_a_commit_that_was_not_heard_of_is_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "usage.db"
    store = UsageStore(f"sqlite:///{place}")
    keep, calls = store._keep, []

    def cut_off(rows: Any) -> None:
        keep(rows)
        calls.append(len(rows))
        if len(calls) == 1:
            raise OperationalError("commit", {}, ConnectionError("the server went away"))

    monkeypatch.setattr(store, "_keep", cut_off)
    for number in range(10):
        store.add(row(number))
    store.start()
    store.close()
    assert (on_disk(place), calls) == (10, [10, 10])


def test_memory_is_bounded_while_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.usage._WAITING", 100)
    lost: list[str] = []
    store = UsageStore(f"sqlite:///{tmp_path / 'usage.db'}", lost.append)
    for number in range(130):
        store.add(row(number))
    assert (store.waiting(), len(lost)) == (100, 30)
    store.close()
    assert len(lost) == 130, "who never began to write has lost all of it"


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    place = tmp_path / "usage.db"
    store = UsageStore(f"sqlite:///{place}")
    store.start()
    store.add(row(1))
    time.sleep(0.8)
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o600}
    store.close()


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
    with closing(sqlite3.connect(tmp_path / "usage.db")) as connection:
        connection.execute("drop table used")
    store.start()
    store.add(row(1))
    store.close()
    assert lost == ["usage"]


@pytest.mark.parametrize(
    "url",
    [
        "nonsense", "nodb://u:hunter2@h/x", "sqlite:////proc/nowhere/usage.db", "sqlite://",
        "mysql://u:hunter2@h/x", "postgresql+psycopg://u:hunter2@127.0.0.1:1/x",
    ],
)  # fmt: skip
def test_a_database_that_is_none_is_told_without_its_password(url: str) -> None:
    with pytest.raises(UserError, match="--usage-db") as caught:
        UsageStore(url)
    assert "hunter2" not in str(caught.value)


def test_a_row_is_written_in_the_order_of_the_columns() -> None:
    assert ("row", *Used._fields) == tuple(USED.columns.keys())


def test_postgresql_takes_the_table() -> None:
    """Its dialect compiles it; no server was at hand."""
    made = str(CreateTable(USED, if_not_exists=True).compile(dialect=postgresql.dialect()))
    assert "prompt_tokens BIGINT NOT NULL" in made
    assert made.strip().startswith("CREATE TABLE IF NOT EXISTS used")
    written = str(_insert("postgresql").compile(dialect=postgresql.dialect()))
    assert written.endswith("ON CONFLICT DO NOTHING")


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
    place = tmp_path / "usage.db"
    place.write_text("my diary\n" * 500)
    with pytest.raises(UserError, match="not a database") as caught:
        UsageStore(f"sqlite:///{place}")
    assert "\n" not in str(caught.value)
    assert place.read_text().startswith("my diary")


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
    with closing(sqlite3.connect(place)) as connection:
        rows = connection.execute(
            "select model, prompt_tokens, completion_tokens, status, stream from used"
        ).fetchall()
    said = whole.usage.prompt_tokens
    assert rows == [("demo-l1", said, 11, 200, 0), ("demo-l2", said, 11, 200, 1)]
