"""What a key may ask in a minute, and at once.

Two token buckets for each key (requests, tokens), each as large as a minute's allowance and
filled evenly. Tokens are taken by an estimate before the answer, and settled by what it cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serve.keys import Key

_MINUTE_S = 60.0
_Left = tuple[tuple[float, float] | None, tuple[float, float] | None]
"""Size and level of the buckets of requests and of tokens, at some moment."""
_FORGET = 10_000
"""Keys that are remembered at once; those that are full again and idle go first."""


class TooMany(Exception):
    """A limit is reached.

    Attributes:
        retry_after_s: until it may be tried again.
        headers: of the answer.
    """

    def __init__(self, message: str, retry_after_s: float, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.retry_after_s, self.headers = retry_after_s, dict(headers)


@dataclass
class Bucket:
    """Holds ``size`` at most and gets as much in a minute; may go below zero by settling."""

    size: float
    level: float
    at: float

    def fill(self, now: float) -> None:
        """Adds what has come since; a clock that goes back adds nothing."""
        if (passed := now - self.at) > 0:
            self.level = min(self.size, self.level + self.size * passed / _MINUTE_S)
            self.at = now

    def wait_s(self, amount: float) -> float:
        """Until ``amount`` is there; more than the whole bucket waits for a full one."""
        lacking = min(amount, self.size) - self.level
        return max(0.0, lacking * _MINUTE_S / self.size)


@dataclass
class _Of:
    """One key's buckets and places."""

    requests: Bucket | None = None
    tokens: Bucket | None = None
    at_once: int = 0


@dataclass
class Ticket:
    """One request's part of its key's limits."""

    _of: _Of
    _clock: Callable[[], float]
    _left: _Left
    _taken: float = 0.0
    _open: bool = True

    @property
    def headers(self) -> dict[str, str]:
        """What was left when it was charged, in the words of OpenAI's headers."""
        return _headers(self._left)

    def charge(self, tokens: int) -> None:
        """Takes what the request may cost, once its body is known.

        Args:
            tokens: an estimate of prompt and answer.

        Raises:
            TooMany: the key has had its tokens; none are taken then.
        """
        bucket = self._of.tokens
        if bucket is None:
            return
        bucket.fill(self._clock())
        _require(bucket, "tokens", float(tokens), self._of)
        # No more than all of it: an estimate alone must not lock a key for hours.
        self._taken = min(float(tokens), bucket.size)
        bucket.level -= self._taken
        self._left = _left(self._of)

    def done(self, tokens: int | None) -> None:
        """The request is over; may be called twice.

        Args:
            tokens: what it cost; None: unknown, and the estimate stands.
        """
        if not self._open:
            return
        self._open = False
        self._of.at_once -= 1
        bucket = self._of.tokens
        if bucket is not None and tokens is not None:
            # What came while it was answered counts first: a full bucket pays no debt by waiting.
            bucket.fill(self._clock())
            # What was taken too much comes back, and what was too little goes.
            bucket.level = min(bucket.size, bucket.level + self._taken - tokens)


class Limiter:
    """The limits of all keys, in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._keys: dict[str, _Of] = {}

    def admit(self, key: Key) -> Ticket:
        """Takes one request, as soon as its key is known.

        Raises:
            TooMany: one of the key's limits is reached; nothing is taken then.
        """
        of = self._of(key, self._clock())
        if key.concurrency is not None and of.at_once >= key.concurrency:
            raise TooMany(
                f"{key.concurrency} requests of this key are under way; that is its limit",
                1.0,
                _headers(_left(of)),
            )
        if of.requests is not None:
            _require(of.requests, "requests", 1.0, of)
            of.requests.level -= 1
        of.at_once += 1
        return Ticket(of, self._clock, _left(of))

    def _of(self, key: Key, now: float) -> _Of:
        of = self._keys.get(key.id)
        if of is None:
            if len(self._keys) >= _FORGET:
                self._forget(now)
            of = self._keys[key.id] = _Of()
        of.requests = _sized(of.requests, key.rpm, now)
        of.tokens = _sized(of.tokens, key.tpm, now)
        return of

    def _forget(self, now: float) -> None:
        for name, of in list(self._keys.items()):
            buckets = [b for b in (of.requests, of.tokens) if b is not None]
            for bucket in buckets:
                bucket.fill(now)
            if not of.at_once and all(b.level >= b.size for b in buckets):
                del self._keys[name]


def _require(bucket: Bucket, what: str, amount: float, of: _Of) -> None:
    if (wait_s := bucket.wait_s(amount)) > 1e-9:
        raise TooMany(
            f"This key may have {bucket.size:,.0f} {what} a minute, and has had them",
            wait_s,
            _headers(_left(of)),
        )


def _left(of: _Of) -> _Left:
    requests, tokens = of.requests, of.tokens
    return (
        None if requests is None else (requests.size, requests.level),
        None if tokens is None else (tokens.size, tokens.level),
    )


def _headers(left: _Left) -> dict[str, str]:
    made = {}
    for what, bucket in zip(("requests", "tokens"), left, strict=True):
        if bucket is not None:
            size, level = bucket
            made[f"x-ratelimit-limit-{what}"] = str(int(size))
            made[f"x-ratelimit-remaining-{what}"] = str(max(0, int(level)))
            made[f"x-ratelimit-reset-{what}"] = f"{_full_s(size, level):.1f}s"
    return made


def _full_s(size: float, level: float) -> float:
    """Until a bucket is full."""
    return (size - level) * _MINUTE_S / size


def _sized(bucket: Bucket | None, size: int | None, now: float) -> Bucket | None:
    """The bucket, filled; another limit than before keeps what had been taken."""
    if size is None:
        return None
    if bucket is None:
        return Bucket(float(size), float(size), now)
    bucket.fill(now)
    if bucket.size != size:
        bucket.level += size - bucket.size
        bucket.size = float(size)
    return bucket
