"""Usage in a real PostgreSQL, where one is installed: written once, and kept while it is away."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from test_usage import _ADDS, row

from serve.usage import UsageStore

ROOT = Path(__file__).resolve().parents[2]


def _tools() -> Path | None:
    """The folder of initdb and postgres; Debian keeps them off the path."""
    places = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


@dataclass
class Server:
    """One cluster; its server comes and goes."""

    tools: Path
    folder: Path
    port: int
    user: str | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://gradus@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        command = [
            self.tools / "postgres", "-D", self.folder / "data", "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-k", self.folder,
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=self.user)
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            try:
                self.ask("select 1")
            except psycopg.OperationalError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """At once, as a machine that falls."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def drop(self) -> None:
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            connection.execute("drop table if exists used")

    def ask(self, query: str) -> tuple[int, ...]:
        where = self.url.replace("+psycopg", "")
        with psycopg.connect(where, connect_timeout=2) as connection:
            found = connection.execute(query).fetchone()  # type: ignore[arg-type]
        return found or ()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    tools = _tools()
    if tools is None:
        pytest.skip("PostgreSQL is not installed")
    user = None
    if os.getuid() == 0:
        # It does not run as root.
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="gradus-pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        subprocess.run(
            [tools / "initdb", "-D", folder / "data", "-U", "gradus", "-A", "trust", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        made = Server(tools, folder, port, user)
        made.start()
        yield made
        made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def empty(server: Server) -> Server:
    server.drop()
    return server


def count(server: Server) -> int:
    return server.ask("select count(*) from used")[0]


def test_processes_that_start_at_once_write_one_table(empty: Server) -> None:
    code = _ADDS.replace('"sqlite:///" + ', "")
    writers = [
        subprocess.Popen([sys.executable, "-c", code, empty.url, name], cwd=ROOT)
        for name in ("a", "b", "c")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = empty.ask(
        "select count(*), count(distinct request_id), sum(completion_tokens) from used"
    )
    assert found == (1500, 1500, 3000)
    store = UsageStore(empty.url)
    (total,) = store.totals()
    assert (total.requests, total.prompt_tokens, total.completion_tokens) == (1500, 1500, 3000)
    assert store.totals("model", since=time.time()) == []
    store.close()


def test_gateways_that_start_at_once_make_one_table(empty: Server) -> None:
    """CREATE TABLE IF NOT EXISTS alone fails here nearly every time."""
    for _ in range(10):
        empty.drop()
        with ThreadPoolExecutor(6) as pool:
            for store in pool.map(UsageStore, [empty.url] * 6):
                store.close()


def test_a_server_that_falls_and_comes_back_has_every_row_once(empty: Server) -> None:
    lost: list[str] = []
    store = UsageStore(empty.url, lost.append)
    store.start()
    for number in range(300):
        store.add(row(number))
        if number == 100:
            time.sleep(0.8)
            empty.stop()
        time.sleep(0.002)
    time.sleep(1.0)
    assert store.waiting() > 0
    empty.start()
    store.close()
    assert (count(empty), lost) == (300, [])


def test_a_row_that_it_does_not_take_is_lost_alone(empty: Server) -> None:
    lost: list[str] = []
    store = UsageStore(empty.url, lost.append)
    bad = {
        3: row(3)._replace(model="a\x00b"),
        50: row(50)._replace(prompt_tokens=1 << 80),
        51: row(51)._replace(version="v" * 100),
    }
    for number in range(100):
        store.add(bad.get(number, row(number)))
    store.start()
    store.close()
    assert (count(empty), lost) == (97, ["usage"] * 3)
