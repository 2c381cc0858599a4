"""Limits: a minute's allowance, filled evenly, settled by what an answer really cost."""

from __future__ import annotations

import contextlib
import socket
import time
from fractions import Fraction
from typing import Any

import openai
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from stub_engine import Stub

from serve.gateway.door import DoorLimits
from serve.keys import Key, OneKey
from serve.limits import Limiter, Ticket, TooMany


def key(**bounds: Any) -> Key:
    return Key(id="k", name="k", sha256="0" * 64, **bounds)


def asked(limiter: Limiter, own: Key, tokens: int) -> Ticket:
    """One request, as the gateway asks for it."""
    ticket = limiter.admit(own)
    try:
        ticket.charge(tokens)
    except TooMany:
        ticket.done(None)
        raise
    return ticket


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.integers(1, 50),
    st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=120),
)
def test_no_more_are_admitted_than_the_closed_form_allows(rpm: int, gaps: list[float]) -> None:
    clock, admitted = Clock(), 0
    limiter, own = Limiter(clock), key(rpm=rpm)
    for gap in gaps:
        clock.now += gap
        try:
            asked(limiter, own, 0).done(0)
        except TooMany:
            continue
        admitted += 1
        # A token bucket: its size and what has come in since the beginning.
        assert admitted <= rpm + rpm * clock.now / 60 + 1e-6


@given(st.integers(1, 60))
def test_waiting_as_long_as_told_is_enough(rpm: int) -> None:
    clock = Clock()
    limiter, own = Limiter(clock), key(rpm=rpm)
    for _ in range(rpm):
        asked(limiter, own, 0)
    with pytest.raises(TooMany) as caught:
        asked(limiter, own, 0)
    assert caught.value.retry_after_s == pytest.approx(60 / rpm)
    clock.now += caught.value.retry_after_s + 1e-6
    asked(limiter, own, 0)


def test_tokens_are_settled_by_what_was_used() -> None:
    clock = Clock()
    limiter, own = Limiter(clock), key(tpm=100)
    ticket = asked(limiter, own, 90)
    with pytest.raises(TooMany, match="tokens a minute"):
        asked(limiter, own, 20)
    ticket.done(10)
    ticket.done(10)
    assert asked(limiter, own, 80).headers["x-ratelimit-remaining-tokens"] == "10"


def test_an_answer_that_cost_more_than_estimated_is_paid_later() -> None:
    clock = Clock()
    limiter, own = Limiter(clock), key(tpm=60)
    asked(limiter, own, 1).done(100)
    with pytest.raises(TooMany) as caught:
        asked(limiter, own, 1)
    # 60 - 100 tokens are owed, at one a second.
    assert caught.value.retry_after_s == pytest.approx(41)


def test_a_request_larger_than_the_bucket_waits_for_a_full_one_and_no_longer() -> None:
    clock = Clock()
    limiter, own = Limiter(clock), key(tpm=60)
    asked(limiter, own, 5000).done(3)
    with pytest.raises(TooMany) as caught:
        asked(limiter, own, 5000)
    assert caught.value.retry_after_s == pytest.approx(3)
    clock.now += 3
    # What it would have cost is not known: all of the bucket is gone, and no more.
    asked(limiter, own, 10**9).done(None)
    with pytest.raises(TooMany) as caught:
        asked(limiter, own, 60)
    assert caught.value.retry_after_s == pytest.approx(60)


class Exact:
    """A token bucket written anew, in fractions: another hand's arithmetic."""

    def __init__(self, size: int) -> None:
        self.size, self.level, self.at = Fraction(size), Fraction(size), Fraction(0)

    def to(self, now: int) -> None:
        self.level = min(self.size, self.level + self.size * (now - self.at) / 60)
        self.at = Fraction(now)


@given(
    st.integers(1, 600),
    st.lists(
        st.tuples(st.integers(0, 90), st.integers(0, 900), st.integers(0, 900), st.integers(0, 90)),
        max_size=40,
    ),
)
def test_tokens_are_taken_and_settled_as_exact_arithmetic_says(
    tpm: int, calls: list[tuple[int, int, int, int]]
) -> None:
    clock, exact = Clock(), Exact(tpm)
    limiter, own = Limiter(clock), key(tpm=tpm)
    for gap, estimate, used, lasts in calls:
        clock.now += gap
        exact.to(int(clock.now))
        taken = min(Fraction(estimate), exact.size)
        if exact.level < taken:
            with pytest.raises(TooMany) as caught:
                asked(limiter, own, estimate)
            waits = (taken - exact.level) * 60 / exact.size
            assert caught.value.retry_after_s == pytest.approx(float(waits), abs=1e-6)
            continue
        ticket = asked(limiter, own, estimate)
        exact.level -= taken
        clock.now += lasts
        exact.to(int(clock.now))
        ticket.done(used)
        exact.level = min(exact.size, exact.level + taken - used)


def test_limits_of_one_key_are_not_those_of_another() -> None:
    limiter = Limiter(Clock())
    asked(limiter, key(rpm=1), 0)
    other = key(rpm=1).model_copy(update={"id": "other"})
    assert asked(limiter, other, 0).headers["x-ratelimit-remaining-requests"] == "0"


def test_the_default_clock_is_not_the_wall() -> None:
    """So that a set clock neither locks a key nor lets it through."""
    before = time.monotonic()
    limiter, own = Limiter(), key(rpm=1)
    asked(limiter, own, 0)
    (of,) = limiter._keys.values()
    assert of.requests is not None
    assert before <= of.requests.at <= time.monotonic()


def test_a_clock_that_jumps_back_gives_and_takes_nothing() -> None:
    clock = Clock()
    limiter, own = Limiter(clock), key(rpm=2)
    clock.now = 1000.0
    asked(limiter, own, 0)
    clock.now = 0.0
    asked(limiter, own, 0)
    with pytest.raises(TooMany):
        asked(limiter, own, 0)


def test_a_bound_that_is_changed_keeps_what_was_taken() -> None:
    limiter = Limiter(Clock())
    for _ in range(3):
        asked(limiter, key(rpm=3), 0)
    asked(limiter, key(rpm=4), 0)
    with pytest.raises(TooMany):
        asked(limiter, key(rpm=4), 0)


def test_places_at_once_come_back_however_a_request_ends() -> None:
    limiter, own = Limiter(Clock()), key(concurrency=1)
    ticket = asked(limiter, own, 0)
    with pytest.raises(TooMany, match="under way"):
        asked(limiter, own, 0)
    ticket.done(None)
    ticket.done(None)
    second = asked(limiter, own, 0)
    with pytest.raises(TooMany):
        asked(limiter, own, 0)
    second.done(3)


ASKED: Any = [{"role": "user", "content": "Hello"}]


class Bounded(OneKey):
    """The one key, with bounds."""

    bounds: dict[str, Any]

    def find(self, token: bytes) -> Key | None:
        found = super().find(token)
        return found and found.model_copy(update=self.bounds)


def ring(**bounds: Any) -> Bounded:
    made = Bounded("t")
    object.__setattr__(made, "bounds", bounds)
    return made


def test_the_gateway_says_429_with_when_to_come_again(gateway: Any) -> None:
    running = gateway(keys=ring(rpm=2), limiter=Limiter())
    client = running.client("t")
    for left in ("1", "0"):
        made = client.chat.completions.with_raw_response.create(model="demo-l2", messages=ASKED)
        assert made.headers["x-ratelimit-remaining-requests"] == left
        assert made.headers["x-ratelimit-limit-requests"] == "2"
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="demo-l2", messages=ASKED)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 31
    assert caught.value.code == "rate_limit_exceeded"
    assert len(running.stub.seen) == 2


def test_streams_and_failures_give_their_place_back(gateway: Any) -> None:
    running = gateway(Stub(tokens=50, chunk_s=0.01), keys=ring(concurrency=1), limiter=Limiter())
    client = running.client("t")
    stream = client.chat.completions.create(model="demo-l2", messages=ASKED, stream=True)
    with pytest.raises(openai.RateLimitError, match="under way"):
        client.chat.completions.create(model="demo-l2", messages=ASKED)
    assert sum(1 for _ in stream) > 40
    running.stub.fail = 400
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="demo-l2", messages=ASKED)
    running.stub.fail = 0
    client.chat.completions.create(model="demo-l2", messages=ASKED)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.5])
def test_a_client_that_goes_gives_its_place_back(
    gateway: Any, stream: bool, after_s: float
) -> None:
    """Before its answer began, and in the middle of it."""
    running = gateway(
        Stub(tokens=100, chunk_s=0.02, delay_s=0.3), keys=ring(concurrency=1), limiter=Limiter()
    )
    said = '{"model":"demo-l2","stream":%s,"messages":[{"role":"user","content":"x"}]}'
    body = (said % ("true" if stream else "false")).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(head.encode() + body)
        time.sleep(after_s)
    # A request that has gone may not be in yet.
    time.sleep(0.1)
    ends = time.monotonic() + 5
    while running.door.in_flight and time.monotonic() < ends:
        time.sleep(0.02)
    running.stub.delay_s = running.stub.chunk_s = 0
    running.client("t").chat.completions.create(model="demo-l2", messages=ASKED)


def test_a_slow_body_holds_its_own_keys_place_and_no_others(gateway: Any) -> None:
    """Limits are looked at before the body: who sends it slowly must not fill the door."""

    class Two(Bounded):
        def find(self, token: bytes) -> Key | None:
            if token == b"other":
                return Key(id="other", name="other", sha256="0" * 64)
            return super().find(token)

    keys = Two("t")
    object.__setattr__(keys, "bounds", {"concurrency": 1})
    running = gateway(keys=keys, limiter=Limiter(), limits=DoorLimits(in_flight=3))
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            for _ in range(8)
        ]
        for one in slow:
            one.sendall(head)
        for refused in slow[1:]:
            refused.settimeout(5)
        answers = [b""] * 8
        ends = time.monotonic() + 5
        while sum(map(bool, answers)) < 7 and time.monotonic() < ends:
            for place, one in enumerate(slow):
                one.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    answers[place] = answers[place] or one.recv(100)
        assert sum(answer.startswith(b"HTTP/1.1 429") for answer in answers) == 7
        assert running.door.in_flight == 1
        made = running.client("other").chat.completions.create(model="demo-l2", messages=ASKED)
        assert made.choices[0].finish_reason == "stop"


def test_a_request_that_is_refused_is_one_of_the_minutes(gateway: Any) -> None:
    """Else a key could have bodies read without an end."""
    running = gateway(keys=ring(rpm=2), limiter=Limiter())
    statuses = [
        requests.post(
            f"{running.url}/v1/chat/completions", data=b"[]", timeout=5,
            headers={"Authorization": "Bearer t", "Content-Type": "application/json"},
        ).status_code
        for _ in range(3)
    ]  # fmt: skip
    assert statuses == [400, 400, 429]
