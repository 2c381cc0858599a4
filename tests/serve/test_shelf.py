"""Names that stand for versions: who is given which, and what a change does to those under way."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import requests
from click.testing import CliRunner
from scipy.stats import binomtest
from stub_engine import Stub
from stub_gateway import Running, card
from tiny_family import Family, another_version

from pipeline.cli import main
from pipeline.core.controls import Controls
from pipeline.core.errors import UserError
from serve.bundle import read_bundle
from serve.gateway.classify import Reading
from serve.gateway.directory import Route, Table
from serve.gateway.shelf import Alias, Shelf
from serve.gateway.upstreams import UpstreamGroup
from serve.heads import Head
from serve.keys import Key
from serve.metrics import Metrics
from serve.release_file import Canary, Release
from serve.releases import Releases
from serve.versions import find_held, register_all, require_beside

NAME = "demo-l2"


def release(folder: Path, **changes: Any) -> Release:
    releases = Releases(folder / "releases.json")
    for number in (1, 2):
        releases.register(
            NAME, f"digest{number}", folder, identity=f"identity{number}", gated=True,
            served=number == 1,
        )  # fmt: skip
    return releases.read()[NAME].model_copy(update=changes)


def routes() -> dict[int, Route]:
    group = UpstreamGroup([])
    return {
        number: Route(NAME, f"c0ffee0{number}", card(NAME), group, f"{NAME}-{number}", NAME)
        for number in (1, 2)
    }


def test_a_trial_goes_to_its_share_of_keys_and_always_to_the_same(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "releases.json")
    release(tmp_path)
    trial = releases.promote(NAME, 2, 10)
    shelf = Shelf(Table([routes()[1]]))
    shelf.put({NAME: Alias(trial, routes(), 1)})
    callers = [f"key_{number}" for number in range(2000)]
    given = {caller: shelf.find(NAME, caller) for caller in callers}
    versions = Counter(route.version for route in given.values() if route is not None)
    assert binomtest(versions["c0ffee02"], len(callers), 0.1).pvalue > 1e-4
    assert all(shelf.find(NAME, caller) == route for caller, route in given.items())
    (shown,) = shelf.cards()
    assert shown["metadata"]["release"] == {
        "number": 1, "canary": {"number": 2, "percent": 10.0},
    }  # fmt: skip


def test_a_name_stands_for_what_is_fixed_until_a_release_takes_it_over(tmp_path: Path) -> None:
    fixed = routes()[1]
    shelf = Shelf(Table([fixed]))
    assert shelf.find(NAME, "") is fixed
    assert shelf.find(f"{NAME}@1", "") is None
    shelf.put({NAME: Alias(release(tmp_path, live=2), routes(), 2)})
    live = shelf.find(NAME, "")
    assert live is not None
    assert live.version == "c0ffee02"
    exact = shelf.find(f"{NAME}@1", "")
    assert exact is not None
    assert (exact.name, exact.version) == (f"{NAME}@1", "c0ffee01")
    assert [shelf.find(n, "") for n in (f"{NAME}@3", f"{NAME}@", "@1", f"{NAME}@01")] == [None] * 4


def test_a_call_under_way_holds_its_version(
    gateway: Callable[..., Running], tmp_path: Path
) -> None:
    """What is counted as used is what the follower must not take out."""
    stub = Stub(chunk_s=0.2)
    running = gateway(stub)
    table = running.door.directory
    assert isinstance(table, Table)
    fixed = table.find("demo-l2", "")
    assert fixed is not None
    second = replace(fixed, version="c0ffee02")
    shelf = Shelf(table)
    shelf.put({NAME: Alias(release(tmp_path), {1: fixed}, 1)})
    running.door.directory = shelf
    with running.client().chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": "x"}], stream=True
    ) as stream:
        shelf.put({NAME: Alias(release(tmp_path, live=2), {2: second}, 2)})
        assert fixed.use.count == 1
        assert {chunk.model for chunk in stream} == {NAME}
    # The client has all of it a moment before the call is over.
    ends = time.monotonic() + 5
    while fixed.use.count and time.monotonic() < ends:
        time.sleep(0.01)
    assert fixed.use.count == 0


class OneName:
    """A ring whose every key may ask the alias alone."""

    def find(self, token: bytes) -> Key | None:
        return Key(id="k1", name="one", models=(NAME,), sha256="0" * 64)


def test_a_key_for_a_name_may_not_pick_its_version(
    gateway: Callable[..., Running], tmp_path: Path
) -> None:
    running = gateway(Stub(), keys=OneName())
    shelf = Shelf(Table([routes()[1]]))
    fixed = running.door.directory.find(NAME, "")
    assert fixed is not None
    shelf.put({NAME: Alias(release(tmp_path), {1: fixed}, 1)})
    running.door.directory = shelf
    said = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    client: Any = running.client()
    assert client.chat.completions.create(model=NAME, **said).model == NAME
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=f"{NAME}@1", **said)


@pytest.fixture(scope="module")
def second(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return another_version(family, family.bundle, tmp_path_factory.mktemp("second"), 8, 22)


@pytest.fixture
def two(family: Family, second: Path, tmp_path: Path) -> tuple[Path, Path]:
    return family.bundle, Path(shutil.copytree(second, tmp_path / "second"))


def test_a_version_is_found_in_its_bundle_or_said_to_be_gone(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    releases = Releases(tmp_path / "releases.json")
    assert register_all(releases, read_bundle(two[0]), served=True)[NAME] == 1
    assert register_all(releases, read_bundle(two[1]), served=False) == {"demo-l1": 1, NAME: 2}
    version = releases.read()[NAME].version(2)
    assert version is not None
    held = find_held(NAME, version)
    assert (held.number, held.about.rank) == (2, 8)
    require_beside(held, read_bundle(two[0]))
    two[1].rename(tmp_path / "moved")
    with pytest.raises(UserError, match=f"{NAME}: version 2: .*is gone; run its recipe again"):
        find_held(NAME, version)


def test_a_rollback_goes_to_nothing_that_cannot_be_served(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    store = tmp_path / "releases.json"
    releases = Releases(store)
    first = Path(shutil.copytree(two[0], tmp_path / "first"))
    register_all(releases, read_bundle(first), served=True)
    register_all(releases, read_bundle(two[1]), served=False)
    releases.promote(NAME, 2)
    first.rename(tmp_path / "moved")
    before = store.read_bytes()
    ended = CliRunner().invoke(main, ["rollback", NAME, "--releases", str(store)])
    assert ended.exit_code == 2
    assert f"{NAME}: version 1: {first} is gone" in ended.output
    assert store.read_bytes() == before
    # What is live and gone keeps nothing else from taking its place.
    (tmp_path / "moved").rename(first)
    two[1].rename(tmp_path / "moved2")
    ended = CliRunner().invoke(main, ["rollback", NAME, "--releases", str(store)])
    assert ended.output == f"{NAME}: version 1 is live\n"


def test_a_trial_ends_though_what_it_was_cannot_be_found(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    store = tmp_path / "releases.json"
    register_all(Releases(store), read_bundle(two[0]), served=True)
    register_all(Releases(store), read_bundle(two[1]), served=False)
    Releases(store).promote(NAME, 2, 5)
    two[1].rename(tmp_path / "moved")
    ended = CliRunner().invoke(main, ["rollback", NAME, "--releases", str(store)])
    assert ended.output == f"{NAME}: version 1 is live\n"


def test_a_bundle_that_was_changed_is_another_version_and_the_old_one_is_told_of(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    releases = Releases(tmp_path / "releases.json")
    register_all(releases, read_bundle(two[1]), served=True)
    place = two[1] / "bundle.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "system": "Be brief."}))
    version = releases.read()[NAME].versions["1"]
    with pytest.raises(UserError, match=r"version 1: .* holds other weights or settings by now"):
        find_held(NAME, version)
    assert register_all(releases, read_bundle(two[1]), served=False)[NAME] == 2


def test_what_a_trial_answers_is_counted_by_itself_and_is_no_drift_of_the_live_version(
    gateway: Callable[..., Running], tmp_path: Path
) -> None:
    metrics = Metrics({NAME: {"labels": {"a": 1.0}, "confidence": 0.5, "abstained": 0.0}})
    running = gateway(Stub(), keys=OneName(), metrics=metrics)
    fixed = running.door.directory.find(NAME, "")
    assert fixed is not None
    stands = Reading(NAME, True, None, Controls(), {})
    weight = np.zeros((2, Stub().states), dtype=np.float32)
    weight[:, 1] = (1.0, -1.0)
    live = Head("single", ("a", "b"), "last", weight, (), (), (), 0.0, 1.0, 1.0, None)
    given = {
        1: replace(fixed, head=live, reading=stands, version="c0ffee01"),
        2: replace(fixed, head=replace(live, weight=-weight), reading=stands, version="c0ffee02"),
    }
    shelf = Shelf(Table([fixed]))
    running.door.directory = shelf

    def ask() -> Any:
        body = {"model": NAME, "input": ["x", "y"]}
        head = {"Authorization": "Bearer k"}
        return requests.post(f"{running.url}/v1/classify", json=body, headers=head, timeout=5)

    shelf.put({NAME: Alias(release(tmp_path), given, 1)})
    assert ask().json()["version"] == "c0ffee01"
    # Whoever holds the trial: all callers but for a rounding.
    trial = release(tmp_path, canary=Canary(version=2, percent=99.999))
    shelf.put({NAME: Alias(trial, given, 1)})
    answer = ask().json()
    assert (answer["model"], answer["version"]) == (NAME, "c0ffee02")
    assert {one["label"] for one in answer["data"]} == {"b"}
    lines = metrics.render().decode().splitlines()
    assert f'gradus_labels_total{{label="a",model="{NAME}"}} 2.0' in lines
    assert f'gradus_labels_total{{label="b",model="{NAME}@2"}} 2.0' in lines
    assert f'gradus_drift_answers{{model="{NAME}"}} 2.0' in lines
    assert f'gradus_label_drift{{model="{NAME}"}} 0.0' in lines


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"max_model_len": 4096}, "another longer context"),
        ({"dtype": "bfloat16"}, "another type of weights"),
    ],
)
def test_what_is_the_whole_engines_cannot_differ_by_version(
    two: tuple[Path, Path], tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    place = two[1] / "bundle.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    store = tmp_path / "releases.json"
    releases = Releases(store)
    register_all(releases, read_bundle(two[0]), served=True)
    register_all(releases, read_bundle(two[1]), served=False)
    said = CliRunner().invoke(main, ["promote", NAME, "2", "--releases", str(store)])
    assert said.exit_code == 2
    assert f"{NAME}: version 2 has {what} than" in said.output
    assert releases.read()[NAME].live == 1


def test_promote_rollback_and_releases_say_what_is_live(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    store = tmp_path / "releases.json"
    releases = Releases(store)
    register_all(releases, read_bundle(two[0]), served=True)
    register_all(releases, read_bundle(two[1]), served=False)

    def run(*words: str) -> str:
        said = CliRunner().invoke(main, [*words, "--releases", str(store)])
        assert said.exit_code == 0, said.output
        return said.output

    assert run("promote", NAME, "2", "--canary", "10") == (
        f"{NAME}: version 1 is live, version 2 for 10 % of callers\n"
    )
    assert run("promote", NAME, "2") == f"{NAME}: version 2 is live\n"
    assert run("rollback", NAME) == f"{NAME}: version 1 is live\n"
    lines = run("releases", NAME).splitlines()
    assert lines[0] == f"{NAME}: version 1 is live"
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert lines[-1].endswith(": rolled back, 2 to 1")
    assert "demo-l1" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("promote", NAME, "9"), f"{NAME}: has no version 9; there are 1, 2"),
        (("promote", "nobody", "1"), "nobody: no released model of that name; there are"),
        (("promote", NAME, "1", "--canary", "100"), "--canary 100: give a share above 0 and below"),
        (("promote", NAME, "1", "--canary", "nan"), "--canary nan: give a share above 0 and below"),
        (("promote", NAME, "1", "--canary", "5"), f"{NAME}: version 1 is live; try another one"),
        (("rollback", NAME), f"{NAME}: version 1 was the first; promote another"),
    ],
)
def test_a_change_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, words: tuple[str, ...], said: str, two: tuple[Path, Path]
) -> None:
    store = tmp_path / "releases.json"
    register_all(Releases(store), read_bundle(two[0]), served=True)
    register_all(Releases(store), read_bundle(two[1]), served=False)
    before = store.read_bytes()
    ended = CliRunner().invoke(main, [*words, "--releases", str(store)])
    assert ended.exit_code == 2
    assert said in ended.output
    assert store.read_bytes() == before
