"""The log: a line for each request, what was said only where it was asked for, and redacted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from serve.access_log import AccessLog, redacted_text


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        ("write to ada.l@example.org now", "write to [e-mail] now", "ada"),
        # A test number of the card networks, and one digit off it.
        ("card 4111 1111 1111 1111.", "card [card].", "4111"),
        ("card 4111 1111 1111 1112.", "card 4111 1111 1111 1112.", "[card]"),
        # Examples of the IBAN registry.
        ("to DE89 3704 0044 0532 0130 00", "to [iban]", "3704"),
        ("to GB82WEST12345698765432", "to [iban]", "WEST"),
        ("to GB83WEST12345698765432", "to GB83WEST12345698765432", "[iban]"),
        ("call +49 30 901820 or +1 (202) 555-0100", "call [phone] or [phone]", "901820"),
        ("Bearer abcdefgh12345678", "Bearer [secret]", "abcdefgh"),
        ("key gradus-_of1lCHpcZ_CvhZeQ6D8EvCGf-WY5R", "key [secret]", "_of1l"),
        ("order 12345 of 2026-11-27, 3.14159265358979", "order 12345 of 2026-11-27", "["),
    ],
)
def test_personal_data_and_secrets_are_replaced_and_nothing_else(
    text: str, kept: str, gone: str
) -> None:
    found = redacted_text(text)
    assert kept in found
    assert gone not in found


def lines(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.read_text().splitlines()]


ASKED: Any = [{"role": "user", "content": "I am ada@example.org\nand more"}]


@pytest.mark.parametrize("prompts", [False, True])
def test_what_was_said_is_written_only_where_it_was_asked_for(
    gateway: Any, tmp_path: Path, prompts: bool
) -> None:
    place = tmp_path / "logs" / "access.jsonl"
    running = gateway(log=AccessLog(place, prompts=prompts))
    client = running.client("tok-secret-secret-secret")
    client.chat.completions.create(
        model="demo-l2", messages=ASKED, extra_headers={"x-request-id": "mine-1"}
    )
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
    running = gateway(log=AccessLog(place))
    with pytest.raises(openai.NotFoundError):
        running.client().chat.completions.create(model="../x\n{}", messages=ASKED)
    (line,) = lines(place)
    assert line["status"] == 404
    assert "model" not in line


def test_a_full_disk_is_counted_and_fails_nobody(gateway: Any) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")
    lost: list[str] = []
    log = AccessLog.__new__(AccessLog)
    import threading

    log._prompts, log._lost, log._lock = False, lost.append, threading.Lock()
    log._file = Path("/dev/full").open("a")  # noqa: SIM115
    running = gateway(log=log)
    running.client().chat.completions.create(model="demo-l2", messages=ASKED)
    assert lost == ["log"]
    log.close()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--access-log"):
        AccessLog(tmp_path)
