"""The hub, through the real client, against a stand-in of the hub's HTTP API."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import hub
from pipeline.core.errors import HubError
from pipeline.core.hub import download_snapshot, resolve_revision
from pipeline.core.lock import LockFile
from tests.hub_case import FILES, MODEL, contents, one_line, point_at
from tests.hub_stand_in import GOOD_TOKEN, HubStandIn
from tests.silent_server import closed_port, silent_server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        point_at(monkeypatch, server.endpoint)
        yield server


# Resolving and locking


def test_a_branch_resolves_to_its_commit(stand_in: HubStandIn) -> None:
    old = stand_in.add("model", MODEL, FILES)
    assert resolve_revision("model", MODEL, None) == old
    new = stand_in.add("model", MODEL, {**FILES, "config.json": b"{}"})
    assert new != old
    assert resolve_revision("model", MODEL, "main") == new
    assert resolve_revision("model", MODEL, old) == old


def test_a_model_and_a_data_set_of_one_name_have_two_commits(stand_in: HubStandIn) -> None:
    model = stand_in.add("model", MODEL, FILES)
    dataset = stand_in.add("dataset", MODEL, {"rows.csv": b"a\n1\n"})
    assert resolve_revision("model", MODEL) == model
    assert resolve_revision("dataset", MODEL) == dataset


def test_a_locked_revision_stays_when_the_branch_moves(
    stand_in: HubStandIn, tmp_path: Path
) -> None:
    recipe = tmp_path / "x.yaml"
    stand_in.add("model", MODEL, FILES)
    commit = resolve_revision("model", MODEL)
    LockFile.load(recipe).with_entry("model", MODEL, None, commit).save()
    stand_in.add("model", MODEL, {**FILES, "config.json": b"changed"})

    locked = LockFile.load(recipe).get("model", MODEL, None)
    assert locked == commit
    download_snapshot("model", MODEL, locked, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


# Refusals


@pytest.mark.parametrize("token", [None, GOOD_TOKEN])
def test_a_missing_repository_is_named(
    stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match="model acme/nothing@main: no such model") as caught:
        resolve_revision("model", "acme/nothing")
    assert "HF_TOKEN" in one_line(caught)


def test_a_missing_revision_is_named(stand_in: HubStandIn) -> None:
    stand_in.add("model", MODEL, FILES)
    with pytest.raises(HubError, match=r"model acme/tiny@v9: .*no revision 'v9'"):
        resolve_revision("model", MODEL, "v9")


def test_a_refused_token_is_told_from_a_missing_repository(
    stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.add("model", MODEL, FILES)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match=r"refuses the token \(401\)") as caught:
        resolve_revision("model", MODEL)
    assert "hf_wrong" not in one_line(caught)


def test_an_id_of_the_wrong_form_is_not_asked_for(stand_in: HubStandIn) -> None:
    with pytest.raises(HubError, match="write it as owner/name"):
        resolve_revision("model", "acme/tiny/deeper")
    assert stand_in.requests == []


@pytest.mark.parametrize(("status", "words"), [(500, "answers 500"), (503, "503"), (429, "429")])
def test_a_faulty_hub_is_asked_once(stand_in: HubStandIn, status: int, words: str) -> None:
    stand_in.add("model", MODEL, FILES)
    stand_in.fail_with = status
    with pytest.raises(HubError, match=words):
        resolve_revision("model", MODEL)
    assert len(stand_in.requests) == 1


# A hub that is away


def test_offline_mode_asks_nobody(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.add("model", MODEL, FILES)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        resolve_revision("model", MODEL)
    assert stand_in.requests == []


def _assert_says_away(caught: pytest.ExceptionInfo[HubError], endpoint: str) -> None:
    message = one_line(caught)
    assert message.startswith(f"model {MODEL}@")
    for word in (endpoint, "cannot be reached", "HF_ENDPOINT", "--set", "needs no hub"):
        assert word in message


def test_a_closed_port_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    endpoint = closed_port()
    point_at(monkeypatch, endpoint)
    start_s = time.monotonic()
    with pytest.raises(HubError) as caught:
        resolve_revision("model", MODEL)
    _assert_says_away(caught, endpoint)
    with pytest.raises(HubError) as caught:
        download_snapshot("model", MODEL, "a" * 40, tmp_path)
    _assert_says_away(caught, endpoint)
    assert time.monotonic() - start_s < 2


@pytest.mark.timeout(20)
@pytest.mark.parametrize("trickle_s", [None, 0.1])
def test_a_server_that_never_answers_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trickle_s: float | None
) -> None:
    monkeypatch.setattr(hub, "REACH_TIMEOUT_S", 0.5)
    with silent_server(trickle_s) as endpoint:
        point_at(monkeypatch, endpoint)
        start_s = time.monotonic()
        with pytest.raises(HubError) as caught:
            resolve_revision("model", MODEL, timeout_s=0.5)
        _assert_says_away(caught, endpoint)
        with pytest.raises(HubError) as caught:
            download_snapshot("model", MODEL, "a" * 40, tmp_path)
        _assert_says_away(caught, endpoint)
        assert time.monotonic() - start_s < 2


def test_the_promised_ten_seconds_leave_room_for_the_start() -> None:
    default_s = inspect.signature(resolve_revision).parameters["timeout_s"].default
    assert default_s == hub.REACH_TIMEOUT_S <= 9


def test_another_web_server_is_not_taken_for_a_hub(
    stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(monkeypatch, f"{stand_in.endpoint}/api/models/acme/tiny/tree/main?x=")
    stand_in.add("model", MODEL, FILES)
    with pytest.raises(HubError, match="does not answer as a hub") as caught:
        resolve_revision("model", MODEL)
    assert "HF_ENDPOINT" in one_line(caught)


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://mirror", "http://[::bad"])
def test_an_endpoint_that_is_no_address_is_said(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    point_at(monkeypatch, endpoint)
    with pytest.raises(HubError, match="HF_ENDPOINT is"):
        resolve_revision("model", MODEL)


# The environment


def test_a_fresh_process_reads_the_endpoint_and_leaves_the_home_alone(
    stand_in: HubStandIn, tmp_path: Path
) -> None:
    commit = stand_in.add("model", MODEL, FILES)
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import sys; from pathlib import Path; from pipeline.core.hub import *; "
        "assert 'huggingface_hub' not in sys.modules; "
        f"commit = resolve_revision('model', {MODEL!r}); "
        f"download_snapshot('model', {MODEL!r}, commit, Path({str(tmp_path / 'out')!r})); "
        "assert 'torch' not in sys.modules; print(commit)"
    )
    environment = {"HOME": str(home), "HF_ENDPOINT": stand_in.endpoint, "PATH": os.environ["PATH"]}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.stdout.strip() == commit, run.stderr
    assert run.stderr == ""
    assert contents(tmp_path / "out") == FILES
    assert list(home.rglob("*")) == []
    # The client's request for a list of tools that might call it is telemetry.
    assert not [request for request in stand_in.requests if "agent" in request.path]
