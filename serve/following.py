"""A running server follows the file of releases: loads, checks, switches, and takes out again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.core.errors import EngineError, GradusError, ModelError, UserError
from serve.adapter_slots import EngineAway
from serve.attached import AttachedEngine
from serve.bundle import Bundle, BundleHead, validation_of
from serve.gateway.directory import Route, Table, chat_route, head_route
from serve.gateway.shelf import Alias, Shelf
from serve.heads import read_head
from serve.parity import check
from serve.parity_heads import check_heads, served_heads
from serve.releases import Release, Releases, Version
from serve.versions import Held, find_held, require_beside

if TYPE_CHECKING:
    from serve.engine import Engine
    from serve.metrics import Metrics
    from serve.vllm_engine import VllmEngine

_LOG = logging.getLogger("gradus.releases")
LOOK_S = 0.25
_AWAY_S = 1.0
# What a client left behind may be in the engine's next batch.
_UNUSED_S = 1.0
_Key = tuple[str, int]


@dataclass(frozen=True)
class _Served:
    """A version that an engine holds, and by which name."""

    route: Route
    held: Held
    engine: VllmEngine


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
        self._releases, self._bundle, self._fixed = releases, bundle, fixed
        self._echo, self._counts, self._metrics = echo, counts, metrics
        self._engines = {engine.pooling: engine for engine in engines}
        self._own = {each.name: each for each in bundle.trained}
        self._served: dict[_Key, _Served] = {}
        self._aliases: dict[str, Alias] = {}
        self._refused: set[_Key] = set()
        self._unused: dict[_Key, float] = {}
        self._told: set[str] = set()

    async def begin(self) -> None:
        """Before the first request.

        Raises:
            GradusError: what is live cannot be served.
        """
        await self._settle(strict=True)
        for name in self._aliases:
            own = self._own[name].digest
            release = self._aliases[name].release
            number = next((v.number for v in release.versions.values() if v.digest == own), None)
            if number not in {None, *release.wanted}:
                self._echo(
                    f"{name}: version {release.live} is live, and this bundle's is version "
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
            if not all(self._counts(engine) for engine in self._engines.values()):
                # One that is being compared has itself to itself: log-probabilities of prompts
                # beside other requests would end it.
                continue
            if stamp != seen:
                seen = stamp
                self._refused.clear()
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

    async def _settle(self, *, strict: bool = False) -> bool:
        """One step towards what the file says; True: nothing is left to do.

        Raises:
            UserError: the file will not do; with ``strict`` also what of it will not.
        """
        told = await asyncio.to_thread(self._releases.read)
        releases = {name: r for name, r in told.items() if self._has(name)}
        wanted = [(name, r.live) for name, r in releases.items()]
        wanted += [(n, r.canary.version) for n, r in releases.items() if r.canary is not None]
        done = True
        for key in wanted:
            done = await self._want(key, releases[key[0]], strict=strict) and done
        self._switch(releases)
        return await self._clear(set(wanted)) and done

    def _has(self, name: str) -> bool:
        return name in self._own and self._fixed.find(name, "") is not None

    async def _want(self, key: _Key, release: Release, *, strict: bool) -> bool:
        """Has a version served, where that can be; False: it is to be tried again."""
        if key in self._served or key in self._refused:
            return True
        version = release.version(key[1])
        assert version is not None, key
        try:
            self._served[key] = await asyncio.to_thread(self._take, key[0], version)
        except EngineAway as error:
            if strict:
                raise
            self._tell(f"{key[0]}: version {key[1]} has to wait: {error}")
            return False
        except (UserError, ModelError, EngineError) as error:
            if strict:
                raise
            self._refused.add(key)
            self._tell(f"{error}\n{key[0]}: version {key[1]} is not served; what was live stays")
        return True

    def _take(self, name: str, version: Version) -> _Served:
        """Loads one version and holds it against its golden answers."""
        held = find_held(name, version)
        require_beside(held, self._bundle)
        own = held.about.digest == self._own[name].digest
        served = name if own else f"{name}@{held.about.digest[:8]}"
        fixed = self._fixed.find(name, "")
        assert fixed is not None
        if isinstance(held.about, BundleHead):
            head = read_head(held.about)
            engine = self._engines[head.pooling]
            route = head_route(held.bundle, held.about, head, fixed.group, served)
        else:
            engine = self._engines[None]
            route = chat_route(held.bundle, held.about, engine, fixed.group, served)
        if served not in engine.slots.held:
            engine.slots.load(served, held.about)
            try:
                self._compare(held, engine, served)
            except BaseException:
                engine.slots.unload(served)
                raise
        return _Served(route, held, engine)

    def compare_again(self, engine: Engine) -> None:
        """Holds what an engine was given since its start against its golden answers.

        Raises:
            EngineError: it gives other ids or answers than training's.
        """
        for served in list(self._served.values()):
            if served.engine is engine and served.route.served not in engine.models:
                self._compare(served.held, served.engine, served.route.served)

    def _compare(self, held: Held, engine: VllmEngine, served: str) -> None:
        named = {held.name: served}
        if isinstance(held.about, BundleHead):
            only = replace(held.bundle, heads=(held.about,))
            line = check_heads(only, served_heads(only, [AttachedEngine(engine.base_url, named)]))
            self._echo(f"{held.name}: version {held.number}: {line.line()}")
            return
        # Beside traffic: no target is forced.
        report = check(held.bundle, engine.base_url, named, alone=False)
        self._echo(f"{held.name}: version {held.number}: {report.line()}")

    def _switch(self, releases: Mapping[str, Release]) -> None:
        """Names stand for what is served of what the file says, all at once."""
        aliases = dict(self._aliases)
        for name, release in releases.items():
            routes = {n: s.route for n in release.wanted if (s := self._served.get((name, n)))}
            if release.live in routes:
                aliases[name] = Alias(release, routes, release.live)
        self.shelf.put(aliases)
        before, self._aliases = self._aliases, aliases
        for name, alias in aliases.items():
            last = before.get(name)
            if last is None or (last.release, [*last.routes]) != (alias.release, [*alias.routes]):
                self._changed(name, last, alias)

    def _changed(self, name: str, before: Alias | None, now: Alias) -> None:
        if before is None or before.live != now.live:
            about = self._served[name, now.live].held.about
            if self._metrics is not None:
                self._metrics.measured_by(name, validation_of(about) or {})
            self._echo(f"{name}: version {now.live} ({about.digest[:8]}) is live")
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
                await asyncio.to_thread(served.engine.slots.unload, served.route.served)
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
