"""Which version of a model a name stands for: promoted, tried on a few callers, rolled back.

One JSON file holds versions, what is live, and the log of every change. It is written whole into
a file beside it and renamed, under a lock: whoever reads it sees all of a change or nothing, and
no change is without its line in the log.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.errors import UserError

_BUCKETS = 10_000


class Version(BaseModel):
    """One immutable version of a model.

    Attributes:
        number: from 1.
        bundle: the folder that it is served from.
        digest: SHA-256 of the adapter's or head's artifact.
        gated: its gates had passed when its bundle was made.
        added_at: seconds since the epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    number: int = Field(ge=1)
    bundle: str
    digest: str
    gated: bool
    added_at: float


class Canary(BaseModel):
    """A version that a share of the callers is given.

    Attributes:
        version: its number.
        percent: of the callers, by a hash of who they are: the same ones each time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    version: int
    percent: float = Field(gt=0, lt=100)


class Release(BaseModel):
    """What one name stands for.

    Attributes:
        versions: by their number, in words of JSON.
        live: the number that callers get.
        canary: the version on trial, or None.
        before: what was live before, newest last: where a rollback goes.
        pinned: somebody has promoted or rolled back: a newer version waits for its promotion.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    versions: dict[str, Version]
    live: int
    canary: Canary | None = None
    before: tuple[int, ...] = Field((), strict=False)
    pinned: bool = False

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


def _live(release: Release, number: int) -> Release:
    """Another version live, and no trial; a rollback goes to the one before."""
    before = release.before if number == release.live else (*release.before, release.live)
    return release.model_copy(update={"live": number, "canary": None, "before": before})


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    models: dict[str, Release] = {}
    log: list[dict[str, Any]] = []


@dataclass
class Releases:
    """The file of releases.

    Attributes:
        path: it is made with the first version.
        clock: seconds since the epoch, for the log alone.
    """

    path: Path
    clock: Callable[[], float] = time.time
    who: Callable[[], str] = field(default=getpass.getuser)

    def read(self) -> Mapping[str, Release]:
        """Name to release; empty where nothing was ever released.

        Raises:
            UserError: the file is no file of releases.
        """
        return self._read().models

    def log(self) -> list[dict[str, Any]]:
        """Every change, oldest first: ``at``, ``by``, ``name``, ``what``, ``from``, ``to``."""
        return list(self._read().log)

    def register(
        self, name: str, digest: str, bundle: Path, *, gated: bool, served: bool = True
    ) -> int:
        """The number of these weights under this name; a new one where they are new.

        Args:
            served: they are being served: a name that nobody has promoted stands for what was
                served last. False: the version waits for its promotion, but for the first.
        """
        with self._changing() as (tree, write):
            release = tree.models.get(name)
            known = {} if release is None else release.versions
            folder = str(bundle.resolve())
            same = next((v for v in known.values() if v.digest == digest), None)
            if release is not None and same is not None:
                told = same.model_copy(update={"bundle": folder, "gated": gated})
                changed = release.model_copy(update={"versions": {**known, str(same.number): told}})
                if served and not release.pinned and release.live != same.number:
                    changed = _live(changed, same.number)
                if changed != release:
                    what = "made again" if changed.live == release.live else "served"
                    write(name, changed, what, release.live, changed.live)
                return same.number
            number = 1 + max((v.number for v in known.values()), default=0)
            made = Version(
                number=number, bundle=folder, digest=digest, gated=gated, added_at=self.clock()
            )
            versions = {**known, str(number): made}
            if release is None:
                write(name, Release(versions=versions, live=number), "added", None, number)
                return number
            waiting = release.model_copy(update={"versions": versions})
            if release.pinned or not served:
                write(name, waiting, "added", release.live, release.live)
            else:
                write(name, _live(waiting, number), "added", release.live, number)
            return number

    def promote(self, name: str, number: int, percent: float | None = None) -> Release:
        """Makes a version live, or gives it to a share of the callers.

        Args:
            percent: of the callers, above 0 and below 100; None: all of them.

        Raises:
            UserError: no such name or version, or one whose gates have not passed.
        """
        with self._changing() as (tree, write):
            release = self._known(tree, name)
            version = release.version(number)
            if version is None:
                there = ", ".join(sorted(release.versions, key=int))
                raise UserError(f"{name}: has no version {number}; there are {there}")
            if not version.gated:
                raise UserError(
                    f"{name}: version {number} is ungated: its gates did not pass; run the recipe "
                    "until they do, and promote what comes of it"
                )
            if percent is not None:
                if not 0 < percent < 100:
                    raise UserError(f"--canary {percent:g}: give a share above 0 and below 100")
                if number == release.live:
                    raise UserError(f"{name}: version {number} is live; try another one on a few")
                canary = Canary(version=number, percent=float(percent))
                changed = release.model_copy(update={"canary": canary, "pinned": True})
                write(name, changed, f"canary {percent:g} %", release.live, number)
                return changed
            changed = _live(release, number).model_copy(update={"pinned": True})
            write(name, changed, "promoted", release.live, number)
            return changed

    def rollback(self, name: str) -> Release:
        """Ends a trial; without one, goes back to what was live before.

        Raises:
            UserError: no such name, or nothing to go back to.
        """
        with self._changing() as (tree, write):
            release = self._known(tree, name)
            if release.canary is not None:
                changed = release.model_copy(update={"canary": None, "pinned": True})
                write(name, changed, "canary ended", release.canary.version, release.live)
                return changed
            if not release.before:
                raise UserError(f"{name}: version {release.live} was the first; promote another")
            target = release.before[-1]
            changed = release.model_copy(
                update={"live": target, "before": release.before[:-1], "pinned": True}
            )
            write(name, changed, "rolled back", release.live, target)
            return changed

    @staticmethod
    def _known(tree: _File, name: str) -> Release:
        release = tree.models.get(name)
        if release is None:
            there = ", ".join(sorted(tree.models)) or "none; `gradus serve RECIPE` adds them"
            raise UserError(f"{name}: no released model of that name; there are {there}")
        return release

    def _read(self) -> _File:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return _File()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from None
        try:
            return _File.model_validate_json(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "file"
            raise UserError(
                f"{self.path}: {where}: {first['msg'].lower()}; put the file of before back"
            ) from None

    @contextlib.contextmanager
    def _changing(
        self,
    ) -> Iterator[tuple[_File, Callable[[str, Release, str, int | None, int], None]]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tree = self._read()

            def write(name: str, release: Release, what: str, old: int | None, new: int) -> None:
                line = {"at": self.clock(), "by": self.who(), "name": name, "what": what,
                        "from": old, "to": new}  # fmt: skip
                models = {**tree.models, name: release}
                self._replace(tree.model_copy(update={"models": models, "log": [*tree.log, line]}))

            yield tree, write

    def _replace(self, tree: _File) -> None:
        handle, place = tempfile.mkstemp(prefix=".releases-", dir=self.path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(tree.model_dump(mode="json"), file, indent=1, sort_keys=True)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            Path(place).replace(self.path)
        except OSError as error:
            Path(place).unlink(missing_ok=True)
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
