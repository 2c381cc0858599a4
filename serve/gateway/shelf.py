"""A directory whose names stand for versions, and change them while requests are under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from serve.gateway.directory import Route, Table

if TYPE_CHECKING:
    from serve.gateway.upstreams import UpstreamGroup
    from serve.release_file import Release


@dataclass(frozen=True)
class Alias:
    """What one name stands for.

    Attributes:
        release: who is given which version.
        routes: number to route; the live one's at least.
        live: the number for whoever's own is not here.
    """

    release: Release
    routes: Mapping[int, Route]
    live: int

    def card(self) -> Mapping[str, Any]:
        """The live version's entry of /v1/models, and what is on trial."""
        card, trial = self.routes[self.live].card, self.release.canary
        told: dict[str, Any] = {"number": self.live, "canary": None}
        if trial is not None and trial.version in self.routes:
            told["canary"] = {"number": trial.version, "percent": trial.percent}
        return {**card, "metadata": {**card["metadata"], "release": told}}


def _counted(name: str, alias: Alias) -> Alias:
    """What is not live answers under the public name, and is counted under its own."""
    routes = {
        number: route if number == alias.live else replace(route, counted_as=f"{name}@{number}")
        for number, route in alias.routes.items()
    }
    return replace(alias, routes=routes)


class Shelf:
    """See ``serve.gateway.directory.Directory``.

    A change is one assignment: a request finds all of it or nothing, and keeps the route that it
    found to its end.
    """

    def __init__(self, fixed: Table) -> None:
        """
        Args:
            fixed: what no release changes: the base, and any name until ``put`` takes it over.
        """
        self._fixed = fixed
        self._aliases: Mapping[str, Alias] = {}
        self._exact: Mapping[str, Route] = {}

    def put(self, aliases: Mapping[str, Alias]) -> None:
        """From now on names stand for these; each version also has its own name, NAME@NUMBER."""
        exact = {
            exactly: replace(route, name=exactly, counted_as=exactly)
            for name, alias in aliases.items()
            for number, route in alias.routes.items()
            for exactly in (f"{name}@{number}",)
        }
        self._aliases = {name: _counted(name, alias) for name, alias in aliases.items()}
        self._exact = exact

    def find(self, name: str, caller: str) -> Route | None:
        """See ``Directory``."""
        alias = self._aliases.get(name)
        if alias is None:
            return self._exact.get(name) or self._fixed.find(name, caller)
        chosen = alias.routes.get(alias.release.chosen(name, caller))
        return alias.routes[alias.live] if chosen is None else chosen

    def cards(self) -> Sequence[Mapping[str, Any]]:
        """See ``Directory``."""
        return [
            alias.card() if (alias := self._aliases.get(str(card["id"]))) else card
            for card in self._fixed.cards()
        ]

    def groups(self) -> Sequence[UpstreamGroup]:
        """See ``Directory``."""
        return self._fixed.groups()
