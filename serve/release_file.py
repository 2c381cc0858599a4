"""The file of releases as it lies on disk: unknown keys refused, every number a version."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.core.errors import UserError
from pipeline.core.validation import first_problem

REFUSED = "refused"
"""What a server writes of a version that it cannot serve."""
_BUCKETS = 10_000
# Up to the year 9999: what a clock can tell.
_Seconds = Annotated[float, Field(ge=0, le=253_402_300_799)]


class _Edge(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Version(_Edge):
    """One immutable version of a model.

    Attributes:
        number: from 1.
        bundle: the folder that it is served from.
        digest: SHA-256 of the adapter's or head's artifact.
        identity: of the weights and of everything of the bundle that shapes an answer (see
            ``serve.identity``); None: written down before versions had one.
        gated: its gates had passed when its bundle was made.
        added_at: seconds since the epoch.
    """

    number: int = Field(ge=1)
    bundle: str
    digest: str
    identity: str | None = None
    gated: bool
    added_at: _Seconds

    def is_of(self, digest: str, identity: str, folder: str) -> bool:
        """Whether it is the version of these weights and settings, in this folder."""
        if self.identity is not None:
            return self.identity == identity
        # Bundles are immutable: the same folder holds what it held.
        return (self.digest, self.bundle) == (digest, folder)


class Canary(_Edge):
    """A version that a share of the callers is given.

    Attributes:
        version: its number.
        percent: of the callers, by a hash of who they are: the same ones each time.
    """

    version: int
    percent: float = Field(gt=0, lt=100)


class Release(_Edge):
    """What one name stands for.

    Attributes:
        versions: by their number, in words of JSON.
        live: the number that callers get.
        canary: the version on trial, or None.
        before: what was live before, newest last: where a rollback goes.
        pinned: somebody has promoted or rolled back: a newer version waits for its promotion.
        change: how often what the name stands for was changed.
    """

    versions: dict[str, Version]
    live: int
    canary: Canary | None = None
    before: tuple[int, ...] = Field((), strict=False)
    pinned: bool = False
    change: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for key, version in self.versions.items():
            if key != str(version.number):
                raise ValueError(f"versions.{key[:20]} has the number {version.number}")
        missing = {*self.wanted, *self.before} - {v.number for v in self.versions.values()}
        if missing:
            raise ValueError(f"there is no version {min(missing)}")
        return self

    def version(self, number: int) -> Version | None:
        """The version of that number."""
        return self.versions.get(str(number))

    def chosen(self, name: str, caller: str) -> int:
        """The number that a caller is given: always the same one while nothing is changed."""
        if self.canary is None:
            return self.live
        hashed = hashlib.sha256(f"{name}\n{self.canary.version}\n{caller}".encode()).digest()
        share = int.from_bytes(hashed[:8], "big") % _BUCKETS / _BUCKETS * 100
        return self.canary.version if share < self.canary.percent else self.live

    @property
    def wanted(self) -> tuple[int, ...]:
        """Numbers that a server has to hold: live, and on trial."""
        return (self.live,) if self.canary is None else (self.live, self.canary.version)


class Line(_Edge):
    """One line of the log: a change, or what a server made of one.

    Attributes:
        at: seconds since the epoch.
        by: the account.
        name: of the model.
        what: was done.
        old, new: numbers, ``from`` and ``to`` in the file.
        version, change, reason: of a server's line: the version that it refuses or serves after
            all, the release's ``change`` that it followed, and why it refuses.
    """

    at: _Seconds
    by: str
    name: str
    what: str
    old: int | None = Field(alias="from")
    new: int | None = Field(alias="to")
    version: int | None = None
    change: int | None = None
    reason: str | None = None


class ReleaseFile(_Edge):
    """All of it."""

    models: dict[str, Release] = {}
    log: list[Line] = []

    def refused(self, name: str) -> dict[int, Line]:
        """Numbers that a server refuses since the name was last changed, and its line."""
        release = self.models.get(name)
        if release is None:
            return {}
        found: dict[int, Line] = {}
        for line in self.log:
            if line.version is None or (line.name, line.change) != (name, release.change):
                continue
            if line.what == REFUSED:
                found[line.version] = line
            else:
                found.pop(line.version, None)
        return found

    def json_tree(self) -> dict[str, Any]:
        """What is written."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def read_releases(path: Path) -> ReleaseFile:
    """The file; empty where there is none.

    Raises:
        UserError: it cannot be read, or is no file of releases.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return ReleaseFile()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({why})") from None
    try:
        return ReleaseFile.model_validate_json(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}; put the file of before back") from None
