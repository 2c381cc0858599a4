"""Limits: a minute's allowance, filled evenly, settled by what an answer really cost."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_engine import Stub

from serve.keys import Key, OneKey
from serve.limits import Limiter, TooMany


def key(**bounds: Any) -> Key:
    return Key(id="k", name="k", sha256="0" * 64, **bounds)


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
            limiter.admit(own, 0).done(0)
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
        limiter.admit(own, 0)
    with pytest.raises(TooMany) as caught:
        limiter.admit(own, 0)
    assert caught.value.retry_after_s == pytest.approx(60 / rpm)
    clock.now += caught.value.retry_after_s + 1e-6
    limiter.admit(own, 0)


def test_tokens_are_settled_by_what_was_used() -> None:
    clock = Clock()
    limiter, own = Limiter(clock), key(tpm=100)
    ticket = limiter.admit(own, 90)
    with pytest.raises(TooMany, match="tokens a minute"):
        limiter.admit(own, 20)
    ticket.done(10)
    ticket.done(10)
    assert limiter.admit(own, 80).headers["x-ratelimit-remaining-tokens"] == "10"


def test_an_answer_that_cost_more_than_estimated_is_paid_later() -> None:
    clock = Clock()
    limiter, own = Limiter(clock), key(tpm=60)
    limiter.admit(own, 1).done(100)
    with pytest.raises(TooMany) as caught:
        limiter.admit(own, 1)
    # 60 - 100 tokens are owed, at one a second.
    assert caught.value.retry_after_s == pytest.approx(41)


def test_a_request_larger_than_the_bucket_waits_for_a_full_one_and_no_longer() -> None:
    limiter = Limiter(Clock())
    limiter.admit(key(tpm=10), 5000).done(3)


def test_a_clock_that_jumps_back_gives_and_takes_nothing() -> None:
    clock = Clock()
    limiter, own = Limiter(clock), key(rpm=2)
    clock.now = 1000.0
    limiter.admit(own, 0)
    clock.now = 0.0
    limiter.admit(own, 0)
    with pytest.raises(TooMany):
        limiter.admit(own, 0)


def test_a_bound_that_is_changed_keeps_what_was_taken() -> None:
    limiter = Limiter(Clock())
    for _ in range(3):
        limiter.admit(key(rpm=3), 0)
    limiter.admit(key(rpm=4), 0)
    with pytest.raises(TooMany):
        limiter.admit(key(rpm=4), 0)


def test_places_at_once_come_back_however_a_request_ends() -> None:
    limiter, own = Limiter(Clock()), key(concurrency=1)
    ticket = limiter.admit(own, 0)
    with pytest.raises(TooMany, match="under way"):
        limiter.admit(own, 0)
    ticket.done(None)
    ticket.done(None)
    second = limiter.admit(own, 0)
    with pytest.raises(TooMany):
        limiter.admit(own, 0)
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
