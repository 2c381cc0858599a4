"""A wall clock that jumps by a year, either way, before a whole `gradus serve`.

What is counted off (limits, deadlines, streams, back-off, revocation) goes by the monotonic clock
and takes no notice. What is a date goes by the wall clock and follows it: a key that expires is
refused from its date on by whatever the clock says, also where it says it too early, and is good
again when the clock is put back; ``at`` in usage and log is the wall clock's word, and the order in
which they were written is kept beside it.

Python's own clock is moved in every run. The C library's too, where libfaketime is at hand:
Debian's package ``libfaketime``, or ``python -m venv .venv-clock``, then ``.venv-clock/bin/pip
install --no-deps --require-hashes -r requirements/clock.lock``.
"""

from __future__ import annotations

import json
import platform
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from served import ROOT, Served, served
from stub_engine import Stub

from serve.keys import add_key, revoke_key

YEAR_S = 365 * 86_400
_PATCH = """\
import time
_real = time.time
time.time = lambda: _real() + float(open({place!r}).read())
"""


def libfaketime() -> Path:
    """The library that is loaded before C's; skips where there is none."""
    found = [
        *Path("/usr/lib").glob("*/faketime/libfaketime.so.1"),
        *(ROOT / ".venv-clock").glob("lib/python3*/site-packages/libfaketime/**/libfaketime.so.1"),
    ]
    if not found or platform.machine() != "x86_64":
        pytest.skip("no libfaketime here (x86-64); this module's first lines tell how to get it")
    return found[0]


@dataclass
class Asking:
    """Three clients of one gateway whose clock can be moved."""

    gateway: Served
    clock: Path
    tokens: dict[str, str]
    sent: list[str] = field(default_factory=list)

    def jump(self, seconds: int) -> None:
        """The wall clock, from what it truly is."""
        # Renamed into place: it is read at any time.
        new = self.clock.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.replace(self.clock)

    def ask(self, who: str, *, stream: bool = False) -> requests.Response:
        name = f"r{len(self.sent):04d}"
        self.sent.append(name)
        body = {"model": "demo-l2", "messages": [{"role": "user", "content": "x"}]}
        return requests.post(
            f"{self.gateway.url}/v1/chat/completions",
            json={**body, "stream": stream}, timeout=20,
            headers={"Authorization": f"Bearer {self.tokens[who]}", "x-request-id": name},
        )  # fmt: skip

    def statuses(self) -> list[int]:
        return [self.ask(who).status_code for who in ("expires", "endless", "limited")]


@pytest.mark.parametrize("how", ["time.time", "libfaketime"])
def test_a_clock_that_jumps_breaks_no_limit_no_deadline_no_stream_and_no_record(
    family: Any, tmp_path: Path, how: str
) -> None:
    clock, keys, log = tmp_path / "clock", tmp_path / "keys.json", tmp_path / "access.jsonl"
    clock.write_text("+0")
    more: dict[str, Any] = {"before": _PATCH.format(place=str(clock))}
    if how == "libfaketime":
        more = {
            "environment": {
                "LD_PRELOAD": str(libfaketime()), "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
            }
        }  # fmt: skip
    usage = tmp_path / "usage.db"
    tokens = {
        "expires": add_key(keys, "expires", expires_at=time.time() + 30 * 86_400)[0],
        "endless": add_key(keys, "endless")[0],
        "limited": add_key(keys, "limited", rpm=3)[0],
    }
    revoked, key = add_key(keys, "revoked")
    tokens["revoked"] = revoked
    settings = {"keys": keys, "access_log": log, "usage_url": f"sqlite:///{usage}", **more}
    began = time.time()
    with served(family, 5, Stub(tokens=100, chunk_s=0.02), **settings) as gateway:
        asking = Asking(gateway, clock, tokens)
        assert [asking.statuses() for _ in range(4)] == [[200, 200, 200]] * 3 + [[200, 200, 429]]
        streamed: list[requests.Response] = []
        stream = threading.Thread(
            target=lambda: streamed.append(asking.ask("endless", stream=True))
        )
        stream.start()
        time.sleep(0.5)

        asking.jump(YEAR_S)
        # A bucket that believed it would be full again; a stream that would be an hour too long.
        assert asking.statuses() == [401, 200, 429]
        assert 1 <= int(asking.ask("limited").headers["retry-after"]) <= 21
        time.sleep(0.2)

        asking.jump(-YEAR_S)
        # Expiry is a date: by this clock it has not come.
        assert asking.statuses() == [200, 200, 429]
        assert 1 <= int(asking.ask("limited").headers["retry-after"]) <= 21
        stream.join(20)
        assert streamed[0].content.count(b"data: ") == 101
        assert streamed[0].content.endswith(b"data: [DONE]\n\n")
        assert asking.ask("revoked").status_code == 200
        revoke_key(keys, key.id)
        time.sleep(1.0)
        assert asking.ask("revoked").status_code == 401
        assert gateway.ready() == 200

        asking.jump(0)
        assert asking.statuses()[:2] == [200, 200]
        gateway.process.terminate()
        stopped = time.monotonic()
        assert gateway.end() == 0
        assert time.monotonic() - stopped < 5
    assert_records(usage, log, asking.sent, began)


def assert_records(usage: Path, log: Path, sent: list[str], began: float) -> None:
    """Every request once, as they came, with its true latency; the dates are the clock's."""
    with closing(sqlite3.connect(usage)) as connection:
        rows = connection.execute(
            "select request_id, at, latency_s, status, stream from used order by rowid"
        ).fetchall()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["request_id"] for line in lines) == sent
    # The stream began before others and ended after them.
    for names in (
        [r[0] for r in rows if not r[4]],
        [e["request_id"] for e in lines if not e["stream"]],
    ):
        assert names == sorted(names)
    assert all(0 <= row[2] < 20 for row in rows)
    assert all(0 <= line["latency_s"] < 20 for line in lines)
    for dates in ([row[1] for row in rows], [line["at"] for line in lines]):
        years = {round((date - began) / YEAR_S) for date in dates}
        assert years == {-1, 0, 1}
