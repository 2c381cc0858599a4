"""Versions in running engines: loaded and held against their golden answers, and taken out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.core.errors import UserError
from serve.attached import AttachedEngine
from serve.bundle import Bundle, BundleHead
from serve.gateway.directory import Route, Table, chat_route, head_route
from serve.heads import read_head
from serve.parity import check
from serve.parity_heads import check_heads, served_heads
from serve.release_file import Release, Version
from serve.versions import Held, find_held, is_version, require_beside

if TYPE_CHECKING:
    from serve.engine import Engine
    from serve.vllm_engine import VllmEngine


@dataclass(frozen=True)
class Loaded:
    """A version that an engine holds.

    Attributes:
        route: of its public name, with the engine's name for it.
        held: the version.
        engine: that holds it.
        own: it is the bundle's own, which the engine's start compared.
    """

    route: Route
    held: Held
    engine: VllmEngine
    own: bool


class Loading:
    """Brings versions into the engines of one bundle.

    Versions of the same weights share one adapter of an engine: what else differs is added to
    requests, and compared for each.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Sequence[VllmEngine],
        fixed: Table,
        echo: Callable[[str], None],
    ) -> None:
        """
        Args:
            bundle: what the engines were started for.
            engines: ready; one that writes, and those that read for heads.
            fixed: the routes of the bundle's own versions.
            echo: told what was compared.
        """
        self._bundle, self._fixed, self._echo = bundle, fixed, echo
        self.engines = {engine.pooling: engine for engine in engines}
        self._own = {each.name: each for each in bundle.trained}

    def knows(self, name: str) -> bool:
        """Whether an engine of these serves the name."""
        return name in self._own and self._fixed.find(name, "") is not None

    def own(self, name: str, release: Release) -> int | None:
        """The number of the bundle's own version; None where the file has lost it."""
        return next((v.number for v in release.versions.values() if self._is_own(name, v)), None)

    def _is_own(self, name: str, version: Version) -> bool:
        return is_version(version, self._bundle, self._own[name])

    def take(self, name: str, version: Version) -> Loaded:
        """Has one version held, and compares it.

        Raises:
            EngineAway: not now; it may be in a moment.
            GradusError: it cannot be served.
        """
        fixed, mine = self._fixed.find(name, ""), self._own[name]
        assert fixed is not None
        own = self._is_own(name, version)
        # The bundle that runs is there, wherever the file says that it lies.
        held = Held(name, version.number, mine, self._bundle) if own else _found(name, version)
        require_beside(held, self._bundle)
        same = held.about.digest == mine.digest
        served = name if same else f"{name}@{held.about.digest[:8]}"
        if isinstance(held.about, BundleHead):
            head = read_head(held.about)
            engine = self.engines[head.pooling]
            route = head_route(held.bundle, held.about, head, fixed.group, served)
        else:
            engine = self.engines[None]
            route = chat_route(held.bundle, held.about, engine, fixed.group, served)
        # Of our own the fixed one: calls that began before any release use it.
        loaded = Loaded(fixed if own else route, held, engine, own)
        fresh = served not in engine.slots.held
        if fresh:
            engine.slots.load(served, held.about)
        try:
            if fresh or not own:
                self._compare(loaded)
        except BaseException:
            if fresh:
                engine.slots.unload(served)
            raise
        return loaded

    def drop(self, gone: Loaded, others: Iterable[Loaded]) -> None:
        """Takes a version that nobody uses out of its engine, unless others share its weights.

        Raises:
            EngineError: the engine will not.
        """
        served = gone.route.served
        if all((each.engine, each.route.served) != (gone.engine, served) for each in others):
            gone.engine.slots.unload(served)

    def compare_again(self, served: Iterable[Loaded], engine: Engine) -> None:
        """Holds what an engine was given since its start against its golden answers.

        Raises:
            EngineError: it gives other ids or answers than training's.
        """
        for each in served:
            if each.engine is engine and not each.own:
                self._compare(each)

    def _compare(self, loaded: Loaded) -> None:
        held, engine = loaded.held, loaded.engine
        named = {held.name: loaded.route.served}
        if isinstance(held.about, BundleHead):
            only = replace(held.bundle, heads=(held.about,))
            line = check_heads(only, served_heads(only, [AttachedEngine(engine.base_url, named)]))
            self._echo(f"{held.name}: version {held.number}: {line.line()}")
            return
        # Beside traffic: no target is forced.
        report = check(held.bundle, engine.base_url, named, alone=False)
        self._echo(f"{held.name}: version {held.number}: {report.line()}")


def _found(name: str, version: Version) -> Held:
    if not version.gated:
        raise UserError(
            f"{name}: version {version.number} is ungated: its gates did not pass; promote another"
        )
    return find_held(name, version)
