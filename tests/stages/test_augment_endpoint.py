"""An endpoint that is away, refuses or is none, and the key that it is given."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.endpoint import endpoint_problem
from tests.silent_server import closed_port, silent_server
from tests.stages.augment_case import (
    KEY,
    Case,
    Reply,
    chat,
    refusal,
    reworded,
    stub,
)

# ---- an endpoint that is away, or is none


def test_an_endpoint_that_is_away_is_named_with_a_remedy(case: Case) -> None:
    url = f"{closed_port()}/v1"
    message = case.refused(url, options={"retries": 0})
    assert f"{url}: cannot be reached in 1 tries" in message
    assert "start it, or mend augment.endpoint" in message


def test_an_endpoint_that_hangs_is_given_up(case: Case) -> None:
    began = time.monotonic()
    with silent_server() as url:
        message = case.refused(f"{url}/v1", options={"timeout_s": 0.2, "retries": 1})
    assert "does not answer within 0.2 s in 2 tries" in message
    assert time.monotonic() - began < 10


def test_an_answer_that_never_ends_is_given_up(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.endpoint._LONGEST_PAUSE_S", 0.0)
    with silent_server(0.05) as url:
        message = case.refused(f"{url}/v1", options={"timeout_s": 0.5, "retries": 0})
    assert "does not answer" in message


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "the key is refused (401: no); set augment.api_key_env"),
        (403, "the key is refused (403: no)"),
        (404, "has no model 'stub', or no /chat/completions (404: no); check augment.model"),
        (402, "answers 402 (402: no); wait"),
        (429, "answers 429 after 2 tries (429: no); wait"),
    ],
)
def test_a_refusal_stops_the_stage_with_one_line(case: Case, status: int, told: str) -> None:
    with stub(lambda _body, _n: refusal(status)) as endpoint:
        assert told in case.refused(endpoint.url)
    assert len(endpoint.bodies) == (2 if status == 429 else 1)


def test_what_answers_only_rubbish_is_given_up_early(tmp_path: Path) -> None:
    case = Case(tmp_path, [{"text": f"Text {n}", "label": "a"} for n in range(60)])
    with stub(lambda _body, _n: (200, {"Content-Type": "text/html"}, b"<html>")) as endpoint:
        message = case.refused(endpoint.url)
    assert "none of the first 20 requests came to a text (the answer is no JSON)" in message
    assert len(endpoint.bodies) <= 24


def test_no_row_at_all_is_an_error_that_says_why(case: Case) -> None:
    with stub(lambda _body, _n: chat("As an AI language model, I rest")) as endpoint:
        message = case.refused(endpoint.url)
    assert "no synthetic row came of 8 requests" in message
    assert "(8: refused by the model)" in message


def test_kinds_that_do_not_fit_the_rows_are_refused(case: Case) -> None:
    case.source = {**case.source, "format": "text"}
    with stub() as endpoint:
        assert "no training row has one" in case.refused(endpoint.url, kind="sample")
        case.source = {**case.source, "prompt": "{text} {label}"}
        assert "cannot fill {label}" in case.refused(endpoint.url, kind="sample")
    assert not endpoint.bodies


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/v1", "example.org/v1", "http://", "http://[::1/v1", "http://a:x/v1", "",
        "https://user:secret-word@example.org/v1", "https://secret-word@example.org/v1",
        "https://example.org/v1?key=secret-word", "https://example.org/v1#secret-word",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_an_endpoint_is_refused_and_not_repeated(case: Case, url: str) -> None:
    assert endpoint_problem(url) is not None
    assert "secret-word" not in case.refused(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://api.example.org/v1/"])
def test_an_address_is_an_endpoint(url: str) -> None:
    assert endpoint_problem(url) is None


# ---- the key


def test_the_key_is_sent_and_stands_nowhere(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", KEY)
    options = {"api_key_env": "STUB_KEY"}

    def telling(body: dict[str, Any], number: int) -> Reply:
        return chat(f"{number} your key is {KEY}") if number else reworded(body)

    with stub(telling) as endpoint:
        case.run(endpoint.url, options=options)
        assert {h["authorization"] for h in endpoint.headers} == {f"Bearer {KEY}"}
        (case.work / "answers.jsonl").rename(case.work / "earlier.jsonl")
        endpoint.reply = lambda _body, _n: refusal(401, f"Incorrect API key provided: {KEY}")
        message = case.refused(endpoint.url, options=options)
    assert "Incorrect API key provided: ***" in message
    written = [path for path in case.folder.rglob("*") if path.is_file()]
    assert len(written) > 4
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_another_services_key_and_names_are_not_sent(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, KEY)
    with stub() as endpoint:
        case.run(endpoint.url)
    assert KEY not in str(endpoint.headers)


@pytest.mark.parametrize("value", [None, " "])
def test_a_key_that_is_not_set_is_told_before_anything_is_asked(
    case: Case, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("STUB_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("STUB_KEY", value)
    with stub() as endpoint:
        message = case.refused(endpoint.url, options={"api_key_env": "STUB_KEY"})
    assert "STUB_KEY is not set in the environment; export STUB_KEY=KEY" in message
    assert not endpoint.bodies


def test_a_key_that_no_header_can_hold_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", "schlüssel\nzwei")
    with stub() as endpoint:
        message = case.refused(endpoint.url, options={"api_key_env": "STUB_KEY"})
    assert "schlüssel" not in message
