"""`gradus keys` and `gradus usage`, as they are typed."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
from serve.keys import KeyFile
from serve.usage import UsageStore
from serve.used import Used


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def gradus(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def made(place: Path, *words: object) -> dict[str, Any]:
    done = gradus("keys", "add", "ada", "--file", place, "--json", *words)
    assert done.exit_code == 0, done.output
    tree: dict[str, Any] = json.loads(done.stdout)
    return tree


def test_add_tells_the_token_alone_on_stdout_and_it_opens(place: Path) -> None:
    done = gradus(
        "keys", "add", "ada", "--file", place, "--models", "a, b", "--rpm", 5, "--tpm", 600,
        "--concurrency", 2,
    )  # fmt: skip
    token = done.stdout.strip()
    key = KeyFile(place).find(token.encode())
    assert key is not None
    assert (key.name, key.models, key.rpm, key.tpm, key.concurrency) == (
        "ada", ("a", "b"), 5, 600, 2,
    )  # fmt: skip
    assert key.sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert token not in done.stderr
    assert key.id in done.stderr


def test_list_shows_bounds_and_no_token_and_revoke_takes_one_away(place: Path) -> None:
    first, second = made(place, "--rpm", 5), made(place, "--models", "m", "--expires", "30d")
    listed = gradus("keys", "list", "--file", place).stdout
    assert f"{first['id']}  ada: all models; 5 requests/min" in listed
    assert f"{second['id']}  ada: models m; until " in listed
    for told in (listed, gradus("keys", "list", "--file", place, "--json").stdout):
        assert first["token"] not in told
        assert hashlib.sha256(first["token"].encode()).hexdigest() not in told
    assert gradus("keys", "revoke", first["id"], "--file", place).exit_code == 0
    (left,) = json.loads(gradus("keys", "list", "--file", place, "--json").stdout)
    assert left["id"] == second["id"]
    assert KeyFile(place).find(first["token"].encode()) is None


@pytest.mark.parametrize(("text", "days"), [("30d", 30), ("36h", 1.5), ("2w", 14), ("720m", 0.5)])
def test_a_span_ends_so_long_from_now(place: Path, text: str, days: float) -> None:
    ends = made(place, "--expires", text)["expires_at"]
    assert ends == pytest.approx(time.time() + days * 86_400, abs=10)


def test_a_day_ends_a_key_at_its_beginning_in_utc(place: Path) -> None:
    ends = made(place, "--expires", "2099-01-31")["expires_at"]
    assert ends == datetime(2099, 1, 31, tzinfo=UTC).timestamp()
    ends = made(place, "--expires", "2099-01-31T12:00:00+02:00")["expires_at"]
    assert ends == datetime(2099, 1, 31, 10, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "words",
    [
        ("--expires", "2020-01-01"), ("--expires", "tomorrow"), ("--expires", "0d"),
        ("--expires", "99999d"), ("--expires", "٣d"), ("--rpm", 0), ("--tpm", 10**15),
        ("--concurrency", -1), ("--models", "a,,b"), ("--models", ""), ("--models", "a\nb"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told_in_one_line_and_makes_no_key(
    place: Path, words: tuple[object, ...]
) -> None:
    done = gradus("keys", "add", "ada", "--file", place, *words)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"gradus: {words[0]} ")
    assert done.stderr.count("\n") == 1
    assert not place.exists()


def test_a_file_of_no_keys_is_told_with_what_makes_one(place: Path) -> None:
    done = gradus("keys", "list", "--file", place)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "`gradus keys add` makes it" in done.stderr


def test_the_last_day_of_the_calendar_is_listed(place: Path) -> None:
    made(place, "--expires", "9999-12-31")
    assert "until 9999-12-31" in gradus("keys", "list", "--file", place).stdout


def test_usage_is_summed_by_key_and_model_since_a_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    store, now = UsageStore(url), time.time()
    store.start()
    for age_s, key, model in ((10, "k1", "m"), (10, "k2", "m"), (90_000, "k1", "n")):
        store.add(Used(now - age_s, "r", key, model, "v", "/", 1000, 5, 200, 0.1, False))
    store.close()
    by_key = gradus("usage", "--usage-db", url).stdout
    assert "k1: 2 requests, 2,000 prompt tokens, 10 written" in by_key
    told = gradus("usage", "--usage-db", url, "--by", "model", "--since", "1d", "--json").stdout
    assert json.loads(told) == [
        {"name": "m", "requests": 2, "prompt_tokens": 2000, "completion_tokens": 10}
    ]


@pytest.mark.parametrize(
    "words", [("--usage-db", "none"), ("--usage-db", "nonsense"), ("--since", "yesterday")]
)
def test_usage_of_nothing_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("GRADUS_STORE", str(tmp_path))
    done = gradus("usage", *words)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"gradus: {words[0]} ")
