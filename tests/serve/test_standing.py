"""What names stand for where versions will not do, by an engine that only keeps count."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_family import Family

from pipeline.cli import main
from pipeline.core.artifact import scan_files
from pipeline.core.digest import tree_digest
from pipeline.core.errors import EngineError, UserError
from serve import following as following_module
from serve import loaded
from serve.adapter_slots import AdapterSlots
from serve.assembly import Serving, followed, releases_of, stand_for
from serve.bundle import Bundle, read_bundle
from serve.following import Following
from serve.gateway.directory import table_of
from serve.gateway.upstreams import UpstreamGroup
from serve.releases import Releases
from serve.versions import ROOM, register_all

NAME = "demo-l2"


class KeepsCount:
    """An engine of which only the table of adapters is real."""

    name, pooling, base_url = "vllm", None, "http://127.0.0.1:9"

    def __init__(self, bundle: Bundle) -> None:
        own = {each.name: each for each in bundle.adapters}
        self.slots = AdapterSlots(self.base_url, own, room=ROOM, rank=512, removes=False)
        self.posted: list[tuple[str, str]] = []
        self.slots._post = self._post  # type: ignore[method-assign]
        self.slots.placed(lambda name, each: Path(name))
        self.models = self.echoes = {each.name: each.name for each in bundle.models}

    def _post(self, path: str, body: Mapping[str, Any]) -> bytes:
        self.posted.append((path.rpartition("/")[2], body["lora_name"]))
        return b""

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        return body


@dataclass
class Case:
    """A file of releases, and servers that follow it one after another."""

    releases: Releases
    family: Bundle
    folder: Path
    differ: set[str] = field(default_factory=set)
    compared: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def bundle(self, name: str, *, weights: bool = True, **changes: Any) -> Path:
        """A bundle with other weights under every name, or with other settings alone."""
        place = self.folder / name
        shutil.copytree(self.family.root, place)
        tree = json.loads((place / "bundle.json").read_text()) | changes
        for entry in tree["adapters"] if weights else ():
            (place / entry["path"] / "README.md").write_text(name)
            entry["digest"] = tree_digest(scan_files(place / entry["path"]))
        (place / "bundle.json").write_text(json.dumps(tree))
        return place

    def add(self, place: Path) -> int:
        return register_all(self.releases, read_bundle(place), served=False)[NAME]

    def server(self, bundle: Bundle | None = None) -> tuple[Following, KeepsCount]:
        bundle = bundle or self.family
        engine: Any = KeepsCount(bundle)
        fixed = table_of(bundle, engine, UpstreamGroup([]))
        self.said.clear()
        made = Following(
            self.releases, bundle, [engine], fixed, self.said.append, counts=lambda _: True
        )
        return made, engine

    def refusals(self) -> list[tuple[Any, ...]]:
        return [
            (line["name"], line["version"], line["to"], line["reason"])
            for line in self.releases.log()
            if line["what"] == "refused"
        ]

    def shown(self) -> str:
        told = CliRunner().invoke(main, ["releases", NAME, "--releases", str(self.releases.path)])
        assert told.exit_code == 0, told.output
        return told.output


@pytest.fixture
def case(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Versions 1, 2 and 3 of both names; 1 is the served bundle's."""
    made = Case(Releases(tmp_path / "releases.json"), read_bundle(family.bundle), tmp_path)

    def check(bundle: Bundle, *_: Any, **__: Any) -> Any:
        made.compared.append(bundle.root.name)
        if bundle.root.name in made.differ:
            raise EngineError("parity: the server makes other ids\n  a table")
        return SimpleNamespace(line=lambda: "parity: equal")

    monkeypatch.setattr(loaded, "check", check)
    monkeypatch.setattr(following_module, "LOOK_S", 0.01)
    monkeypatch.setattr(following_module, "_UNUSED_S", 0.05)
    register_all(made.releases, made.family, served=True)
    for number in (2, 3):
        assert made.add(made.bundle(f"v{number}")) == number
    return made


def run(doing: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(doing(), 20)

    return asyncio.run(bounded())


async def settled(server: Following) -> None:
    while not await server._settle():
        await asyncio.sleep(0.02)


def stands_for(server: Following, name: str = NAME) -> int:
    card = next(card for card in server.shelf.cards() if card["id"] == name)
    number: int = card["metadata"]["release"]["number"]
    return number


def test_what_is_live_and_refused_keeps_no_server_from_starting(case: Case) -> None:
    case.releases.promote(NAME, 2)
    case.differ.add("v3")

    async def doing() -> None:
        server, _ = case.server()
        await server.begin()
        case.releases.promote(NAME, 3)
        await settled(server)
        assert stands_for(server) == 2
        assert (
            f"{NAME}: version 3 is refused, and version 2 is served: parity: the" in case.said[-1]
        )
        for _ in range(2):
            again, _ = case.server()
            await again.begin()
            assert stands_for(again) == 2
            assert any(line.startswith(f"{NAME}: version 3 is refused") for line in case.said)

    run(doing)
    assert case.refusals() == [(NAME, 3, 2, "parity: the server makes other ids")]
    shown = case.shown()
    assert "REFUSED: a server could not serve version 3 at" in shown
    assert "and serves version 2: parity: the server makes other ids" in shown


def test_a_version_that_is_gone_falls_back_to_what_was_live_before_it_then_to_the_bundle(
    case: Case,
) -> None:
    case.releases.promote(NAME, 2)
    case.releases.promote(NAME, 3)
    shutil.rmtree(case.folder / "v3")

    async def started() -> int:
        server, _ = case.server()
        await server.begin()
        return stands_for(server)

    assert run(started) == 2
    shutil.rmtree(case.folder / "v2")
    assert run(started) == 1
    # Once for each version and change, however often a server starts.
    assert run(started) == 1
    assert [(number, serves) for _, number, serves, _ in case.refusals()] == [(3, 2), (2, 1)]


def test_a_trial_that_will_not_do_keeps_no_server_from_starting(case: Case) -> None:
    case.differ.add("v3")
    case.releases.promote(NAME, 3, 50)

    async def doing() -> None:
        server, _ = case.server()
        await server.begin()
        assert stands_for(server) == 1
        versions = {server.shelf.find(NAME, f"key-{number}").version for number in range(50)}  # type: ignore[union-attr]
        assert len(versions) == 1

    run(doing)
    assert [(number, serves) for _, number, serves, _ in case.refusals()] == [(3, 1)]


def test_a_promotion_once_more_tries_again_and_what_does_then_is_written_down(case: Case) -> None:
    case.differ.add("v3")

    async def doing() -> None:
        server, _ = case.server()
        await server.begin()
        case.releases.promote(NAME, 3)
        await settled(server)
        case.compared.clear()
        await settled(server)
        assert case.compared == [], "a version is tried once for a change"
        case.differ.clear()
        case.releases.promote(NAME, 3)
        await settled(server)
        assert stands_for(server) == 3

    run(doing)
    assert "REFUSED" not in case.shown()

    case.differ.add("v3")
    started, _ = case.server()
    run(started.begin)
    assert "REFUSED" in case.shown()
    case.differ.clear()
    started, _ = case.server()
    run(started.begin)
    assert case.releases.log()[-1]["what"] == "served after all"
    assert "REFUSED" not in case.shown()


def test_promotions_go_on_after_a_restart_with_the_first_bundle(case: Case) -> None:
    """The bundle's own versions leave the slots that they no longer need."""
    for name in ("demo-l1", NAME):
        case.releases.promote(name, 2)

    async def doing() -> None:
        server, engine = case.server()
        await server.begin()
        for name in ("demo-l1", NAME):
            case.releases.promote(name, 3)
        await settled(server)
        assert [stands_for(server, name) for name in ("demo-l1", NAME)] == [3, 3]
        assert len(engine.slots.held) == 2
        # And back to what the engine was started with.
        for name in ("demo-l1", NAME):
            case.releases.promote(name, 1)
        await settled(server)
        assert [stands_for(server, name) for name in ("demo-l1", NAME)] == [1, 1]
        assert sorted(engine.slots.held) == ["demo-l1", NAME]

    run(doing)


def test_more_promoted_names_than_there_is_room_for_are_all_live_at_a_start(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.adapter_slots.AdapterSlots.full", property(
        lambda slots: len(slots.held) >= 3))  # fmt: skip
    for name in ("demo-l1", NAME):
        case.releases.promote(name, 2)

    async def doing() -> None:
        server, _ = case.server()
        begun = time.monotonic()
        await server.begin()
        assert time.monotonic() - begun < 10
        assert [stands_for(server, name) for name in ("demo-l1", NAME)] == [2, 2]

    run(doing)


def test_other_settings_over_the_same_weights_share_an_adapter_and_are_compared(
    case: Case,
) -> None:
    other = case.bundle("told", weights=False, system="Be brief.")
    assert case.add(other) == 4

    async def doing() -> None:
        server, engine = case.server()
        await server.begin()
        case.releases.promote(NAME, 4)
        await settled(server)
        live = server.shelf.find(NAME, "")
        assert live is not None
        assert (stands_for(server), live.rendering.system, live.served) == (4, "Be brief.", NAME)
        assert (engine.posted, case.compared) == ([], ["told"])
        # Their own weights go, and these come back.
        case.releases.promote(NAME, 2)
        await settled(server)
        case.releases.rollback(NAME)
        await settled(server)
        assert stands_for(server) == 4
        assert sorted(engine.slots.held) == ["demo-l1", NAME]
        case.compared.clear()
        server.compare_again(engine)  # type: ignore[arg-type]
        assert case.compared == ["told"]
        case.releases.rollback(NAME)
        await settled(server)
        plain = server.shelf.find(NAME, "")
        assert plain is not None
        assert (stands_for(server), plain.rendering.system) == (1, None)

    run(doing)


def test_an_engine_that_follows_nothing_says_so_and_stands_for_no_other_version(
    case: Case,
) -> None:
    engine: Any = SimpleNamespace(name="transformers")
    said: list[str] = []
    assert followed(case.family, [engine], case.releases, said.append) is None
    assert said[0].startswith("releases are not followed: transformers loads nothing while it runs")
    case.releases.promote(NAME, 3)
    with pytest.raises(UserError, match=rf"{NAME}: version 3 is live.*gradus promote {NAME} 1"):
        followed(case.family, [engine], case.releases, said.append)
    able: Any = SimpleNamespace(name="vllm")
    assert followed(case.family, [able], case.releases, said.append) is case.releases


def test_a_file_that_cannot_be_written_does_not_stop_what_is_served(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.differ.add("v3")
    case.releases.promote(NAME, 3)

    def unwritten(*_: Any) -> None:
        raise UserError("releases.json: cannot be written (Read-only file system)")

    monkeypatch.setattr(case.releases, "refuse", unwritten)
    server, _ = case.server()
    run(server.begin)
    assert stands_for(server) == 1
    assert "releases.json: cannot be written (Read-only file system)" in case.said


def test_a_server_changes_what_others_serve_when_its_parity_has_held_and_not_before(
    case: Case,
) -> None:
    """And no name that somebody has promoted."""
    serving = Serving(releases=case.releases.path)
    first, second = (read_bundle(case.bundle(name)) for name in ("first", "second"))

    def live() -> dict[str, int]:
        return {name: release.live for name, release in case.releases.read().items()}

    said: list[str] = []
    for bundle in (first, second):
        releases = releases_of(bundle, serving, said.append)
        assert releases is not None
        assert live() == {each.name: 1 for each in bundle.adapters}
    assert said == []
    case.releases.promote("demo-l1", 1)
    stand_for(releases, second, said.append)
    # The fifth: three are there already.
    assert live() == {"demo-l1": 1, "demo-l2": 5}
    (line,) = said
    assert line.startswith("demo-l2: version 5 is live in ")
