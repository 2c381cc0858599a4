"""A running server follows the file of releases: loads, checks, switches, and takes out again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.core.errors import EngineError, GradusError, UserError
from serve.adapter_slots import EngineAway
from serve.bundle import Bundle, validation_of
from serve.gateway.directory import Table
from serve.gateway.shelf import Alias, Shelf
from serve.loaded import Loaded, Loading
from serve.release_file import Release, Version
from serve.releases import Releases

if TYPE_CHECKING:
    from serve.engine import Engine
    from serve.metrics import Metrics
    from serve.vllm_engine import VllmEngine

_LOG = logging.getLogger("gradus.releases")
LOOK_S = 0.25
_AWAY_S = 1.0
# Until what is live is there: a start does not wait longer, and its names stand for the bundle's.
_BEGIN_S = 60.0
# What a client left behind may be in the engine's next batch.
_UNUSED_S = 1.0
_Key = tuple[str, int]
_Tried = tuple[Version, int]
"""A version and how often its name was changed: it is tried once."""


class Following:
    """Keeps a shelf as the file of releases says."""

    def __init__(
        self,
        releases: Releases,
        bundle: Bundle,
        engines: Sequence[VllmEngine],
        fixed: Table,
        echo: Callable[[str], None],
        *,
        counts: Callable[[Engine], bool],
        metrics: Metrics | None = None,
    ) -> None:
        """
        Args:
            releases: the file.
            bundle: what the engines were started for.
            engines: ready; one that writes, and those that read for heads.
            fixed: the routes of the bundle's own versions.
            echo: told every change, and every version that will not do.
            counts: whether an engine is well and has been compared: only such a one is asked.
            metrics: told which head is live: drift is measured by its own validation.
        """
        self.shelf = Shelf(fixed)
        self._releases, self._loading = releases, Loading(bundle, engines, fixed, echo)
        self._echo, self._counts, self._metrics = echo, counts, metrics
        self._served: dict[_Key, Loaded] = {}
        self._aliases: dict[str, Alias] = {}
        self._refused: dict[_Key, _Tried] = {}
        self._seen: dict[_Key, str | None] = {}
        self._unused: dict[_Key, float] = {}
        self._told: set[str] = set()

    async def begin(self) -> None:
        """Before the first request.

        What is live and cannot be served keeps nothing from being served: its name stands for
        what was live before, or for the bundle's own version.

        Raises:
            UserError: the file is none of releases.
        """
        releases = await self._read()
        for name, release in releases.items():
            if (own := self._loading.own(name, release)) is not None:
                # It is there already: what no name stands for leaves its slot.
                await self._want((name, own), release)
        ends = time.monotonic() + _BEGIN_S
        while not await self._settle() and time.monotonic() < ends:
            if releases.keys() <= self._aliases.keys():
                break
            await asyncio.sleep(LOOK_S)
        for name, alias in self._aliases.items():
            release, number = alias.release, self._loading.own(name, alias.release)
            if number not in {None, alias.live, *release.wanted}:
                self._echo(
                    f"{name}: version {alias.live} is live, and this bundle's is version "
                    f"{number}: `gradus promote {name} {number}` makes it live"
                )

    async def follow(self) -> None:
        """Until cancelled."""
        seen, done = self._stamp(), False
        while True:
            await asyncio.sleep(LOOK_S)
            stamp = self._stamp()
            if stamp == seen and done:
                continue
            if not all(self._counts(engine) for engine in self._loading.engines.values()):
                # One that is being compared has itself to itself: log-probabilities of prompts
                # beside other requests would end it.
                continue
            if stamp != seen:
                seen = stamp
                self._told.clear()
            try:
                done = await self._settle()
            except GradusError as error:
                # The file will not do; what is served stays.
                self._tell(str(error))
                done = True
            except Exception:
                # A defect of ours: what is served stays, and whoever reads the log sees it.
                _LOG.exception("releases are not followed")
                done = True
            if not done:
                await asyncio.sleep(_AWAY_S)

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._releases.path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size

    async def _read(self) -> dict[str, Release]:
        told = await asyncio.to_thread(self._releases.read)
        return {name: release for name, release in told.items() if self._loading.knows(name)}

    async def _settle(self) -> bool:
        """One step towards what the file says; True: nothing is left to do.

        Raises:
            UserError: the file is none of releases.
        """
        releases, done = await self._read(), True
        standing: dict[str, int] = {}
        wanted: set[_Key] = set()
        for name, release in releases.items():
            number, waits = await self._stand(name, release)
            done = done and not waits
            if number is not None:
                standing[name] = number
                wanted.add((name, number))
            wanted.add((name, release.live))
            if release.canary is not None:
                wanted.add(trial := (name, release.canary.version))
                done = await self._want(trial, release) and done
        self._switch(releases, standing)
        await self._write_down()
        return await self._clear(wanted) and done

    async def _stand(self, name: str, release: Release) -> tuple[int | None, bool]:
        """The number that a name stands for, and whether that waits for an engine.

        It is what is live, or what takes its place where that cannot be served; None: whatever
        is served stays.
        """
        now, own = self._aliases.get(name), self._loading.own(name, release)
        places = [release.live, *(() if now is None else (now.live,))]
        places += [n for n in reversed(release.before) if (v := release.version(n)) and v.gated]
        for number in (*places, *(() if own is None else (own,))):
            if not await self._want((name, number), release):
                return None, True
            if (name, number) in self._served:
                return number, False
        return None, False

    async def _want(self, key: _Key, release: Release) -> bool:
        """Has a version served, where that can be; False: it is to be tried again."""
        name, number = key
        version = release.version(number)
        if key in self._served or version is None:
            return True
        if self._refused.get(key) == (version, release.change):
            return True
        try:
            self._served[key] = await asyncio.to_thread(self._loading.take, name, version)
            self._seen[key] = None
        except EngineAway as error:
            self._tell(f"{name}: version {number} has to wait: {error}")
            return False
        except GradusError as error:
            self._refused[key] = (version, release.change)
            self._seen[key] = str(error)
        return True

    async def _write_down(self) -> None:
        """Says what will not do, on stderr and in the file's own log, and there what does."""
        seen, self._seen = self._seen, {}
        for (name, number), error in seen.items():
            alias = self._aliases.get(name)
            serves = number if alias is None else alias.live
            try:
                if error is None:
                    await asyncio.to_thread(self._releases.accept, name, number)
                    continue
                reason, *more = error.splitlines() or [""]
                text = f"{name}: version {number} is refused, and version {serves} is served"
                self._tell("\n".join([f"{text}: {reason}", *more]))
                await asyncio.to_thread(self._releases.refuse, name, number, serves, reason)
            except UserError as unwritten:
                self._tell(str(unwritten))

    def compare_again(self, engine: Engine) -> None:
        """Holds what an engine was given since its start against its golden answers.

        Raises:
            EngineError: it gives other ids or answers than training's.
        """
        self._loading.compare_again(list(self._served.values()), engine)

    def _switch(self, releases: Mapping[str, Release], standing: Mapping[str, int]) -> None:
        """Names stand for what is served of what the file says, all at once."""
        aliases = dict(self._aliases)
        for name, number in standing.items():
            numbers = (number, *releases[name].wanted)
            routes = {n: s.route for n in numbers if (s := self._served.get((name, n)))}
            aliases[name] = Alias(releases[name], routes, number)
        self.shelf.put(aliases)
        before, self._aliases = self._aliases, aliases
        for name, alias in aliases.items():
            last = before.get(name)
            if last is None or (last.release, [*last.routes]) != (alias.release, [*alias.routes]):
                self._changed(name, last, alias)

    def _changed(self, name: str, before: Alias | None, now: Alias) -> None:
        if before is None or before.live != now.live:
            loaded = self._served[name, now.live]
            if self._metrics is not None:
                self._metrics.measured_by(name, validation_of(loaded.held.about) or {})
            how = "live" if now.live == now.release.live else "served"
            self._echo(f"{name}: version {now.live} ({loaded.route.version}) is {how}")
        trial = now.release.canary
        if trial is not None and trial.version in now.routes:
            self._echo(f"{name}: version {trial.version} for {trial.percent:g} % of callers")

    async def _clear(self, wanted: set[_Key]) -> bool:
        """Takes out what no name stands for and no call uses; False: some is in use yet."""
        named = {(name, n) for name, alias in self._aliases.items() for n in alias.routes}
        done = True
        for key in [key for key in self._served if key not in wanted | named]:
            served = self._served[key]
            if served.route.use.count:
                self._unused.pop(key, None)
            if time.monotonic() - self._unused.setdefault(key, time.monotonic()) < _UNUSED_S:
                done = False
                continue
            del self._unused[key]
            try:
                others = [each for other, each in self._served.items() if other != key]
                await asyncio.to_thread(self._loading.drop, served, others)
            except EngineError as error:
                self._tell(str(error))
                done = False
                continue
            del self._served[key]
        return done

    def _tell(self, text: str) -> None:
        """Once, until the file changes."""
        if text not in self._told:
            self._told.add(text)
            self._echo(text)
