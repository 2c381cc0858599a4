"""The log: a line for each request, what was said only where it was asked for, and redacted."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_disk import fill, small_disk

from pipeline.core.errors import UserError
from serve.access_log import AccessLog
from serve.assembly import Serving
from serve.open_files import kept_open

ROOT = Path(__file__).resolve().parents[2]


def lines(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.read_text().splitlines()]


ASKED: Any = [{"role": "user", "content": "I am ada@example.org\nand more"}]


@pytest.mark.parametrize("prompts", [False, True])
def test_what_was_said_is_written_only_where_it_was_asked_for(
    gateway: Any, tmp_path: Path, prompts: bool
) -> None:
    place = tmp_path / "logs" / "access.jsonl"
    log = AccessLog(place, prompts=prompts)
    running = gateway(log=log)
    client = running.client("tok-secret-secret-secret")
    client.chat.completions.create(
        model="demo-l2", messages=ASKED, extra_headers={"x-request-id": "mine-1"}
    )
    assert log.flush()
    (line,) = lines(place)
    assert line["request_id"] == "mine-1"
    assert (line["status"], line["model"], line["completion_tokens"]) == (200, "demo-l2", 8)
    text = place.read_text()
    assert "ada@example.org" not in text
    assert "secret-secret" not in text
    assert ("[e-mail]" in text) is prompts
    assert ("body" in line) is prompts


def test_refused_requests_have_a_line_too(gateway: Any, tmp_path: Path) -> None:
    import openai

    place = tmp_path / "access.jsonl"
    log = AccessLog(place)
    running = gateway(log=log)
    with pytest.raises(openai.NotFoundError):
        running.client().chat.completions.create(model="../x\n{}", messages=ASKED)
    assert log.flush()
    (line,) = lines(place)
    assert line["status"] == 404
    assert "model" not in line


def test_a_full_disk_is_counted_fails_nobody_and_tears_no_later_line(
    gateway: Any, tmp_path: Path
) -> None:
    lost: list[str] = []
    with small_disk(tmp_path / "disk", 64 << 10) as disk:
        place = disk / "access.jsonl"
        log = AccessLog(place, lost=lost.append)
        running = gateway(log=log)
        client = running.client()
        client.chat.completions.create(model="demo-l2", messages=ASKED)
        assert log.flush()
        filler = fill(disk)
        for number in range(200):
            log.write({"request_id": f"r{number}", "path": "/" + "x" * 200})
        client.chat.completions.create(model="demo-l2", messages=ASKED)
        assert log.flush()
        assert 1 <= len(lost) <= 201
        filler.unlink()
        client.chat.completions.create(model="demo-l2", messages=ASKED)
        log.close()
        whole = 0
        for line in place.read_text().splitlines():
            with contextlib.suppress(ValueError):
                whole += isinstance(json.loads(line), dict)
        # All that were taken, less those that were counted as lost.
        assert whole == 203 - len(lost)
        assert json.loads(place.read_text().splitlines()[-1])["status"] == 200


def test_a_reader_of_stderr_that_stops_holds_nobody_up(tmp_path: Path) -> None:
    code = (
        "import sys, time; from serve.access_log import AccessLog\n"
        "lost = []; log = AccessLog(None, lost=lost.append); began = time.monotonic()\n"
        "for n in range(30000): log.write({'request_id': str(n), 'path': 'x' * 100})\n"
        "print(time.monotonic() - began, len(lost), flush=True); sys.stdin.read()\n"
        "import os; os._exit(0)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stderr is not None
    took_s, lost = child.stdout.readline().split()
    # A pipe holds 64 KiB of these 4 MB; nobody has read any.
    assert float(took_s) < 2.0
    assert 0 < int(lost) <= 10_000
    assert json.loads(child.stderr.readline())["request_id"] == "0"
    child.communicate(timeout=20)


def test_short_lines_on_a_pipe_stay_whole_beside_others_text_and_long_lines() -> None:
    """What is told on stderr stands between lines, never in one of them."""
    code = (
        "import threading; from pathlib import Path; from serve.access_log import AccessLog\n"
        "from serve.telling import tell\n"
        "log = AccessLog(None, prompts=True)\n"
        "def others():\n"
        "    for n in range(3000): tell('#' * 200)\n"
        "other = threading.Thread(target=others); other.start()\n"
        "for n in range(40):\n"
        "    for k in range(9): log.write({'request_id': f'small-{n}-{k}', 'pad': 'x' * 150})\n"
        "    log.write({'request_id': f'large-{n}'}, {'body': {'text': 'y' * 9000}})\n"
        "    log.flush()\n"
        "other.join(); log.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, check=True, cwd=ROOT, timeout=60
    )
    small = [line for line in done.stderr.split(b"\n") if b"small-" in line]
    assert len(small) == 360
    for line in small:
        # The last piece of a long one may stand before it, and so may a mark of others.
        assert json.loads(line[line.rindex(b'{"at"') :])["pad"] == "x" * 150


def test_a_log_that_was_moved_away_goes_on_in_a_new_file(tmp_path: Path) -> None:
    place, old = tmp_path / "access.jsonl", tmp_path / "access.jsonl.1"
    log = AccessLog(place)
    log.write({"request_id": "before"})
    assert log.flush()
    place.rename(old)
    log.write({"request_id": "after"})
    log.close()
    assert [line["request_id"] for line in lines(old)] == ["before"]
    assert [line["request_id"] for line in lines(place)] == ["after"]
    assert {stat.S_IMODE(p.stat().st_mode) for p in (place, old)} == {0o600}


def test_a_line_is_one_line_whatever_stands_in_it(tmp_path: Path) -> None:
    place = tmp_path / "access.jsonl"
    log = AccessLog(place, prompts=True)
    given = 'a\n{"request_id":"forged"}\r\u2028\x1b[31m\x7f\ud800'
    log.write({"request_id": "r"}, {"body": {"messages": [{"content": given}]}})
    log.close()
    assert place.read_bytes().count(b"\n") == 1
    assert lines(place)[0]["body"]["messages"][0]["content"] == given
    assert not set(place.read_bytes()) & {0x1B, 0x7F}


def test_bodies_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.access_log.redacted", lambda value: time.sleep(0.02) or value)
    place = tmp_path / "access.jsonl"
    log = AccessLog(place, prompts=True)
    for number in range(100):
        log.write({"request_id": str(number)}, {"body": {"messages": []}})
    log.close()
    written = lines(place)
    assert len(written) == 100
    assert 32 <= sum("body" in line for line in written) < 100
    assert all(("body" in line) != ("cut" in line) for line in written)


def test_what_waits_when_it_is_closed_is_written(tmp_path: Path) -> None:
    place, lost = tmp_path / "access.jsonl", []
    log = AccessLog(place, lost=lost.append)
    for number in range(5000):
        log.write({"request_id": str(number)})
    log.close()
    assert [line["request_id"] for line in lines(place)] == [str(n) for n in range(5000)]
    assert lost == []


def test_of_lines_that_a_full_disk_tears_each_is_written_whole_or_counted(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 << 10) as disk:
        place, lost, told = disk / "access.jsonl", [], []
        log = AccessLog(place, lost=lost.append, told=told.append)
        for number in range(2000):
            log.write({"request_id": str(number), "path": "/" + "x" * (number % 90)})
        assert log.flush()
        raw = place.read_bytes()
        whole = raw.count(b"\n")
        # A megabyte is asked of 64 KiB.
        assert 0 < whole < 2000
        assert whole + len(lost) == 2000
        assert [json.loads(line)["request_id"] for line in raw.splitlines()[:whole]] == [
            str(number) for number in range(whole)
        ]
        with place.open("r+b") as file:
            # Room again, behind half a line.
            file.truncate(len(raw) // 2)
        log.write({"request_id": "after"})
        log.close()
        assert json.loads(place.read_bytes().splitlines()[-1])["request_id"] == "after"
    assert any("is written again" in line for line in told)


def test_what_comes_after_the_end_is_counted_as_lost(tmp_path: Path) -> None:
    place, lost = tmp_path / "access.jsonl", []
    log = AccessLog(place, lost=lost.append)
    log.write({"request_id": "before"})
    log.close()
    log.write({"request_id": "after"})
    log.close()
    assert [line["request_id"] for line in lines(place)] == ["before"]
    assert lost == ["log"]


def test_of_a_log_that_is_held_up_each_line_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.access_log._CLOSING_S", 0.2)
    fifo, lost = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(fifo, lost=lost.append, told=lambda _line: None)
    for number in range(2000):
        log.write({"request_id": str(number), "path": "x" * 150})
    log.close()
    log.close()
    told = len(lost)
    read = b""
    ends = time.monotonic() + 5
    while log._thread.is_alive() and time.monotonic() < ends:
        with contextlib.suppress(BlockingIOError):
            read += os.read(reader, 1 << 20)
    with contextlib.suppress(BlockingIOError):
        read += os.read(reader, 1 << 20)
    os.close(reader)
    assert len(lost) == told
    written = read.count(b"\n")
    # The batch that was in hand is told as lost, and the reader that came too late had it.
    in_hand = written + told - 2000
    assert 0 <= in_hand < 64 * 1024 / 150


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--access-log"):
        AccessLog(tmp_path)


def test_a_dash_is_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    bundle: Any = SimpleNamespace(trained=())
    with kept_open(bundle, Serving(access_log=Path("-")), print) as kept:
        assert kept["log"] is not None
        kept["log"].write({"request_id": "r"})
        kept["log"].close()
    assert json.loads(capfd.readouterr().err)["request_id"] == "r"
    assert not Path("-").exists()
