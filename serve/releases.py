"""Which version of a model a name stands for: promoted, tried on a few callers, rolled back.

One JSON file holds versions, what is live, and the log of every change. It is written whole into
a file beside it and renamed, under a lock: whoever reads it sees all of a change or nothing, and
no change is without its line in the log.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.core.errors import UserError
from pipeline.core.nearest import nearest
from serve.release_file import (
    REFUSED,
    Canary,
    Line,
    Release,
    ReleaseFile,
    Version,
    read_releases,
)

_ACCEPTED = "served after all"
_REASON = 300


class _Write(Protocol):
    """Writes one line of the log, and the release that it is about."""

    def __call__(
        self, name: str, release: Release, what: str, old: int | None, new: int | None, **more: Any
    ) -> None: ...


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        return f"uid {os.getuid()}"


def _stands(version: Version) -> bool:
    return Path(version.bundle).is_dir()


def _changed(release: Release, **update: Any) -> Release:
    """What the name stands for is changed: also by a promotion of what is live, which tries it
    again where servers refuse it."""
    return release.model_copy(update={**update, "change": release.change + 1})


def _live(release: Release, number: int) -> Release:
    """Another version live, and no trial; a rollback goes to the one before."""
    before = release.before if number == release.live else (*release.before, release.live)
    return _changed(release, live=number, canary=None, before=before)


@dataclass
class Releases:
    """The file of releases.

    Attributes:
        path: it is made with the first version.
        clock: seconds since the epoch, for the log alone.
    """

    path: Path
    clock: Callable[[], float] = time.time
    who: Callable[[], str] = field(default=_account)

    def read(self) -> Mapping[str, Release]:
        """Name to release; empty where nothing was ever released.

        Raises:
            UserError: the file is no file of releases.
        """
        return read_releases(self.path).models

    def log(self) -> list[dict[str, Any]]:
        """Every change, oldest first: ``at``, ``by``, ``name``, ``what``, ``from``, ``to``."""
        lines = read_releases(self.path).log
        return [line.model_dump(by_alias=True, exclude_unset=True) for line in lines]

    def register(
        self,
        name: str,
        digest: str,
        bundle: Path,
        *,
        identity: str,
        gated: bool,
        served: bool = True,
        stands: Callable[[Version], bool] = _stands,
    ) -> int:
        """The number of a version under this name; a new one where it is new.

        What is known keeps the bundle that it was registered with, unless that is gone or the
        new one's gates have passed and its own had not.

        Args:
            digest: of the weights.
            identity: of the weights and of all that shapes their answers.
            served: it is being served: a name that nobody has promoted stands for what was
                served last. False: the version waits for its promotion, but for the first.
            stands: whether a version can still be found in its bundle.
        """
        with self._changing() as (tree, write):
            release = tree.models.get(name)
            known = {} if release is None else release.versions
            folder = str(bundle.resolve())
            same = next((v for v in known.values() if v.is_of(digest, identity, folder)), None)
            if release is not None and same is not None:
                told = _again(same, folder, identity, gated=gated, stands=stands)
                changed = release.model_copy(update={"versions": {**known, str(same.number): told}})
                if served and not release.pinned and release.live != same.number:
                    changed = _live(changed, same.number)
                if changed != release:
                    what = "made again" if changed.live == release.live else "served"
                    write(name, changed, what, release.live, changed.live)
                return same.number
            number = 1 + max((v.number for v in known.values()), default=0)
            made = Version(
                number=number, bundle=folder, digest=digest, identity=identity, gated=gated,
                added_at=self.clock(),
            )  # fmt: skip
            versions = {**known, str(number): made}
            if release is None:
                write(
                    name,
                    Release(versions=versions, live=number),
                    "added",
                    None,
                    number,
                    version=number,
                )
                return number
            waiting = release.model_copy(update={"versions": versions})
            if release.pinned or not served:
                write(name, waiting, "added", release.live, release.live, version=number)
            else:
                write(name, _live(waiting, number), "added", release.live, number, version=number)
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
            if release.version(number) is None:
                there = ", ".join(sorted(release.versions, key=int))
                raise UserError(f"{name}: has no version {number}; there are {there}")
            _require_gated(name, release, number)
            if percent is not None:
                if not 0 < percent < 100:
                    raise UserError(f"--canary {percent:g}: give a share above 0 and below 100")
                if number == release.live:
                    raise UserError(f"{name}: version {number} is live; try another one on a few")
                canary = Canary(version=number, percent=float(percent))
                changed = _changed(release, canary=canary, pinned=True)
                write(name, changed, f"canary {percent:g} %", release.live, number)
                return changed
            changed = _live(release, number).model_copy(update={"pinned": True})
            write(name, changed, "promoted", release.live, number)
            return changed

    def rollback(self, name: str) -> Release:
        """Ends a trial; without one, goes back to what was live before.

        Raises:
            UserError: no such name, nothing to go back to, or that is ungated.
        """
        with self._changing() as (tree, write):
            release = self._known(tree, name)
            if release.canary is not None:
                changed = _changed(release, canary=None, pinned=True)
                write(name, changed, "canary ended", release.canary.version, release.live)
                return changed
            if not release.before:
                raise UserError(f"{name}: version {release.live} was the first; promote another")
            target = release.before[-1]
            _require_gated(name, release, target)
            changed = _changed(release, live=target, before=release.before[:-1], pinned=True)
            write(name, changed, "rolled back", release.live, target)
            return changed

    def refuse(self, name: str, number: int, serves: int, reason: str) -> None:
        """Writes down that a server cannot serve a version; once until the name is changed.

        Args:
            serves: the number that it serves instead.
            reason: one line.
        """
        self._tell(name, number, serves, REFUSED, reason=reason[:_REASON])

    def accept(self, name: str, number: int) -> None:
        """Writes down that a server serves a version that was refused, where it was."""
        if number in self.refused(name):
            self._tell(name, number, number, _ACCEPTED)

    def refused(self, name: str) -> Mapping[int, Line]:
        """Numbers of this name that a server refuses as the name stands now, and its line."""
        return read_releases(self.path).refused(name)

    def _tell(self, name: str, number: int, serves: int, what: str, **more: str) -> None:
        with self._changing() as (tree, write):
            release = tree.models.get(name)
            known = number in tree.refused(name)
            if release is not None and known != (what == REFUSED):
                write(name, release, what, number, serves, version=number, change=release.change,
                      **more)  # fmt: skip

    @staticmethod
    def _known(tree: ReleaseFile, name: str) -> Release:
        release = tree.models.get(name)
        if release is None:
            there = ", ".join(sorted(tree.models)) or "none; `gradus serve RECIPE` adds them"
            raise UserError(
                f"{name}: no released model of that name{nearest(name, sorted(tree.models))}; "
                f"there are {there}"
            )
        return release

    @contextlib.contextmanager
    def _changing(self) -> Iterator[tuple[ReleaseFile, _Write]]:
        with contextlib.ExitStack() as held:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                lock = held.enter_context(self.path.with_suffix(".lock").open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            except (OSError, ValueError) as error:
                raise self._unwritten(error) from None
            tree = read_releases(self.path)

            def write(
                name: str, release: Release, what: str, old: int | None, new: int | None,
                **more: Any,
            ) -> None:  # fmt: skip
                told = {"at": self.clock(), "by": self.who(), "name": name, "what": what,
                        "from": old, "to": new, **more}  # fmt: skip
                models = {**tree.models, name: release}
                log = [*tree.log, Line.model_validate(told)]
                self._replace(tree.model_copy(update={"models": models, "log": log}))

            yield tree, write

    def _replace(self, tree: ReleaseFile) -> None:
        place: Path | None = None
        try:
            handle, made = tempfile.mkstemp(prefix=".releases-", dir=self.path.parent)
            place = Path(made)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(tree.json_tree(), file, indent=1, sort_keys=True)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            place.replace(self.path)
        except OSError as error:
            if place is not None:
                place.unlink(missing_ok=True)
            raise self._unwritten(error) from None

    def _unwritten(self, error: OSError | ValueError) -> UserError:
        why = getattr(error, "strerror", None) or error
        return UserError(f"{self.path}: cannot be written ({why}); give --releases another file")


def _again(
    version: Version,
    folder: str,
    identity: str,
    *,
    gated: bool,
    stands: Callable[[Version], bool],
) -> Version:
    """A version that is known, in its own bundle or a better one."""
    told = version.model_copy(update={"identity": identity})
    if folder == version.bundle:
        return told.model_copy(update={"gated": gated})
    if gated > version.gated or (gated == version.gated and not stands(version)):
        return told.model_copy(update={"bundle": folder, "gated": gated})
    return told


def _require_gated(name: str, release: Release, number: int) -> None:
    version = release.version(number)
    if version is None or not version.gated:
        raise UserError(
            f"{name}: version {number} is ungated: its gates did not pass; run the recipe "
            "until they do, and promote what comes of it"
        )
