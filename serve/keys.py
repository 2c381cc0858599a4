"""Who may ask: keys that are known by their SHA-256 alone.

A key is 256 random bits in URL-safe letters behind ``gradus-``: SHA-256 without salt is enough
for what nobody can guess. The file is written whole and renamed; a running server looks at it
several times a second, so a revoked key is refused within one.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.core.errors import UserError
from pipeline.core.validation import first_problem

PREFIX = "gradus-"
_LOOK_S = 0.25
# Seconds since the epoch; no calendar of Python goes on behind it.
_YEAR_10000 = 253_402_300_800
# Of a minute; a larger one is none, and would not fit the numbers that it is counted in.
_Bound = Annotated[int, Field(ge=1, le=10**12)]
# No line ends and nothing that a terminal acts on: names stand in lists and logs.
_Name = Annotated[str, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Key(BaseModel):
    """One key's owner and bounds; what is None is not bounded.

    Attributes:
        id: public: it stands in logs and usage.
        name: for people.
        sha256: hexadecimal, of the whole token.
        models: names that it may ask; empty: all.
        rpm, tpm: requests and tokens a minute.
        concurrency: requests at once.
        metrics: it may read /metrics, which tells of all models and of everybody's traffic.
        expires_at: seconds since the epoch.
        created_at: likewise.
    """

    # A day of expiry that is no number (NaN) would never come.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    name: _Name
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    models: tuple[_Name, ...] = Field((), strict=False)
    rpm: _Bound | None = None
    tpm: _Bound | None = None
    concurrency: _Bound | None = None
    metrics: bool = False
    expires_at: float | None = Field(None, ge=0, lt=_YEAR_10000)
    created_at: float = 0.0


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    keys: list[Key] = []

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        # One id, one owner: limits and usage are counted by it.
        for each, times in Counter(key.id for key in self.keys).items():
            if times > 1:
                raise ValueError(f"the id {each} stands {times} times")
        return self


class KeyRing(Protocol):
    """Knows tokens."""

    def find(self, token: bytes) -> Key | None:
        """Whose token it is; None where it is unknown, revoked or expired."""
        ...


@dataclass(frozen=True)
class OneKey:
    """The one key of `gradus serve --api-key`."""

    token: str

    def find(self, token: bytes) -> Key | None:
        """See ``KeyRing``."""
        digest = hashlib.sha256(self.token.encode()).hexdigest()
        if not hmac.compare_digest(hashlib.sha256(token).hexdigest(), digest):
            return None
        return Key(id="api-key", name="--api-key", sha256=digest, metrics=True)


class KeyFile:
    """A file of keys, read again when it changes."""

    def __init__(
        self,
        path: Path,
        told: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            told: of a file that cannot be read while serving; the last good one counts then.
            clock: seconds since the epoch.

        Raises:
            UserError: there is no such file, or it is none of keys.
        """
        self.path, self._told, self._clock = path, told, clock
        # Before the keys: what is written in between is then seen as a change.
        self._seen = _stamp(path)
        # Of no file there is no stamp either, so none is a tuple without numbers.
        self._bad: tuple[int, ...] | None = ()
        self._next = 0.0
        self._keys = read_keys(path)

    def find(self, token: bytes) -> Key | None:
        """See ``KeyRing``. Every key is compared, so that time tells nothing of which is near."""
        self._look()
        given, found = hashlib.sha256(token).hexdigest(), None
        for key in self._keys:
            if hmac.compare_digest(given, key.sha256):
                found = key
        if found is None or (found.expires_at is not None and found.expires_at <= self._clock()):
            return None
        return found

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _LOOK_S
        stamp = _stamp(self.path)
        if stamp == self._seen:
            self._bad = ()
        if stamp in {self._seen, self._bad}:
            return
        try:
            self._keys, self._seen, self._bad = read_keys(self.path), stamp, ()
        except UserError as error:
            # Told once, not with every request.
            self._bad = stamp
            self._told(f"{error}; the keys of before count")


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file.

    Raises:
        UserError: it is missing, no file of keys, or others than its owner may write it.
    """
    try:
        with path.open("rb") as file:
            mode, raw = os.fstat(file.fileno()).st_mode, file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `gradus keys add` makes it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if mode & 0o022:
        # Who can write it can let in anybody.
        raise UserError(f"{path}: others may write it; run `chmod go-w {path}`")
    try:
        return tuple(_File.model_validate_json(raw).keys)
    except ValidationError as error:
        raise UserError(
            f"{path}: {first_problem(error)}; mend it, or make it again by `gradus keys add`"
        ) from None


def add_key(path: Path, name: str, **bounds: object) -> tuple[str, Key]:
    """Makes a key; its token is told once, here, and never written.

    Args:
        bounds: models, rpm, tpm, concurrency, metrics, expires_at, as of ``Key``.

    Returns:
        (token, key).

    Raises:
        UserError: bounds that make no sense, or a file that cannot be written.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    try:
        key = Key.model_validate(
            {
                "id": secrets.token_hex(4), "name": name, "created_at": time.time(),
                "sha256": hashlib.sha256(token.encode()).hexdigest(), **bounds,
            }
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        place = str(first["loc"][0])
        option = "NAME" if place == "name" else f"--{place.removesuffix('_at')}"
        raise UserError(f"{option} {first['input']!r}: {first['msg'].lower()}") from None
    _change(path, lambda keys: [*keys, key])
    return token, key


def revoke_key(path: Path, key_id: str) -> Key:
    """Takes a key away.

    Raises:
        UserError: there is none of that id.
    """
    gone: list[Key] = []

    def without(keys: Sequence[Key]) -> list[Key]:
        gone.extend(key for key in keys if key.id == key_id)
        if not gone:
            there = ", ".join(key.id for key in keys) or "none"
            raise UserError(f"{path}: no key {key_id}; there are {there}")
        return [key for key in keys if key.id != key_id]

    _change(path, without)
    return gone[0]


def _change(path: Path, change: Callable[[Sequence[Key]], list[Key]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = read_keys(path) if path.exists() else ()
            tree = _File(keys=change(keys))
            # mkstemp makes it for its owner alone, and so it stays.
            handle, place = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(tree.model_dump_json(indent=1) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                Path(place).replace(path)
            except BaseException:
                Path(place).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
