"""A name stands for one version at a time, and every change of that is whole and written down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scipy.stats import binomtest

from pipeline.cli import main
from pipeline.core.errors import UserError
from serve.releases import Releases


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path / "releases.json", clock=lambda: 5.0, who=lambda: "ada")


def registered(releases: Releases, number: int, folder: Path, **more: Any) -> int:
    told = {"identity": f"identity{number}", "gated": True, **more}
    return releases.register("intents", f"digest{number}", folder, **told)


def added(releases: Releases, count: int, *, gated: bool = True) -> None:
    for number in range(1, count + 1):
        folder = releases.path.parent / f"bundle{number}"
        assert registered(releases, number, folder, gated=gated) == number


def test_the_same_weights_are_the_same_version(releases: Releases) -> None:
    added(releases, 2)
    folder = releases.path.parent / "bundle1"
    assert registered(releases, 1, folder, served=False) == 1
    assert [line["what"] for line in releases.log()] == ["added", "added"]
    # Made again elsewhere: the number stays, the folder is the new one.
    again = folder.parent / "again"
    assert registered(releases, 1, again, served=False) == 1
    version = releases.read()["intents"].version(1)
    assert version is not None
    assert version.bundle == str(folder.parent / "again")


def test_the_same_weights_with_other_settings_are_another_version(releases: Releases) -> None:
    folder = releases.path.parent
    first, other = folder / "first", folder / "other"
    first.mkdir()
    assert registered(releases, 1, first) == 1
    assert registered(releases, 1, other, identity="other settings") == 2
    release = releases.read()["intents"]
    assert {v.digest for v in release.versions.values()} == {"digest1"}
    assert [v.bundle for v in release.versions.values()] == [str(first), str(other)]
    assert releases.rollback("intents").live == 1
    # The same once more, from elsewhere: what is there keeps its bundle.
    assert registered(releases, 1, folder / "copy", served=False) == 1
    assert releases.read()["intents"].versions["1"].bundle == str(first)


def test_an_ungated_bundle_does_not_take_a_gated_versions_place(releases: Releases) -> None:
    folder = releases.path.parent
    assert registered(releases, 1, folder / "gone") == 1
    assert registered(releases, 1, folder / "ungated", gated=False) == 1
    version = releases.read()["intents"].versions["1"]
    assert (version.gated, version.bundle) == (True, str(folder / "gone"))
    assert registered(releases, 2, folder / "ungated2", gated=False, served=False) == 2
    assert registered(releases, 2, folder / "gated2", served=False) == 2
    version = releases.read()["intents"].versions["2"]
    assert (version.gated, version.bundle) == (True, str(folder / "gated2"))


def test_versions_from_before_identities_keep_their_numbers(releases: Releases) -> None:
    added(releases, 2)
    tree = json.loads(releases.path.read_text())
    for version in tree["models"]["intents"]["versions"].values():
        del version["identity"]
    del tree["models"]["intents"]["change"]
    releases.path.write_text(json.dumps(tree))
    assert registered(releases, 1, releases.path.parent / "bundle1", served=False) == 1
    assert releases.read()["intents"].versions["1"].identity == "identity1"
    assert registered(releases, 2, releases.path.parent / "elsewhere", served=False) == 3


def test_a_rollback_does_not_end_at_an_ungated_version(releases: Releases) -> None:
    added(releases, 1, gated=False)
    registered(releases, 2, releases.path.parent)
    with pytest.raises(UserError, match="version 1 is ungated"):
        releases.rollback("intents")
    assert releases.read()["intents"].live == 2


def test_a_refusal_is_written_once_for_each_change_of_the_name(releases: Releases) -> None:
    added(releases, 2)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: releases.refuse("intents", 2, 1, "parity: differs"), range(8)))
    assert releases.log()[2:] == [
        {"at": 5.0, "by": "ada", "name": "intents", "what": "refused", "from": 2, "to": 1,
         "version": 2, "change": 1, "reason": "parity: differs"},
    ]  # fmt: skip
    assert set(releases.refused("intents")) == {2}
    releases.promote("intents", 2)
    assert not releases.refused("intents")
    releases.refuse("intents", 2, 1, "x" * 5000)
    assert len(releases.log()[-1]["reason"]) == 300
    releases.accept("intents", 2)
    assert not releases.refused("intents")
    length = len(releases.log())
    releases.accept("intents", 2)
    assert len(releases.log()) == length


def test_a_name_that_nobody_promoted_stands_for_its_newest_version(releases: Releases) -> None:
    added(releases, 3)
    assert releases.read()["intents"].live == 3
    releases.promote("intents", 2)
    registered(releases, 4, releases.path.parent)
    assert releases.read()["intents"].live == 2


def test_a_name_that_nobody_promoted_stands_for_what_was_served_last(releases: Releases) -> None:
    added(releases, 2)
    folder = releases.path.parent
    assert registered(releases, 3, folder, served=False) == 3
    assert releases.read()["intents"].live == 2
    assert registered(releases, 1, folder / "bundle1") == 1
    assert releases.read()["intents"].live == 1
    releases.promote("intents", 2)
    assert registered(releases, 3, folder) == 3
    assert releases.read()["intents"].live == 2
    whats = [(line["what"], line["from"], line["to"]) for line in releases.log()]
    assert whats == [
        ("added", None, 1), ("added", 1, 2), ("added", 2, 2), ("served", 2, 1), ("promoted", 1, 2),
    ]  # fmt: skip


def test_rollback_goes_the_way_of_promotions_backwards(releases: Releases) -> None:
    added(releases, 3)
    releases.promote("intents", 1)
    releases.promote("intents", 2)
    assert [releases.rollback("intents").live for _ in range(4)] == [1, 3, 2, 1]
    with pytest.raises(UserError, match="was the first"):
        releases.rollback("intents")


def test_an_ungated_version_is_never_promoted(releases: Releases) -> None:
    added(releases, 2, gated=False)
    with pytest.raises(UserError, match="version 1 is ungated"):
        releases.promote("intents", 1)
    assert releases.read()["intents"].live == 2


@pytest.mark.parametrize(
    ("name", "number", "percent", "said"),
    [("other", 1, None, "there are intents"), ("intents", 9, None, "there are 1, 2"),
     ("intents", 1, 0, "above 0"), ("intents", 1, 100, "below 100"),
     ("intents", 2, 5, "version 2 is live"), ("intents", 1, float("nan"), "above 0")],
)  # fmt: skip
def test_what_cannot_be_promoted_is_told_and_nothing_changes(
    releases: Releases, name: str, number: int, percent: float | None, said: str
) -> None:
    added(releases, 2)
    before = releases.path.read_bytes()
    with pytest.raises(UserError, match=said):
        releases.promote(name, number, percent)
    assert releases.path.read_bytes() == before


def test_a_canary_is_given_to_its_share_of_callers_and_to_each_always(releases: Releases) -> None:
    added(releases, 2)
    releases.promote("intents", 1)
    release = releases.promote("intents", 2, 10)
    callers = [f"key-{number}" for number in range(4000)]
    given = {caller: release.chosen("intents", caller) for caller in callers}
    found = Counter(given.values())
    assert set(found) == {1, 2}
    assert binomtest(found[2], len(callers), 0.1).pvalue > 1e-4
    assert all(release.chosen("intents", caller) == given[caller] for caller in callers)
    # A larger share keeps those that it had.
    wider = releases.promote("intents", 2, 30)
    assert all(wider.chosen("intents", c) == 2 for c in callers if given[c] == 2)
    assert releases.rollback("intents").chosen("intents", callers[0]) == 1
    assert {line["what"] for line in releases.log()} >= {"canary 10 %", "canary ended"}


def test_a_server_holds_what_is_live_and_on_trial(releases: Releases) -> None:
    added(releases, 4)
    releases.promote("intents", 1)
    releases.promote("intents", 3)
    assert set(releases.promote("intents", 2, 5).wanted) == {3, 2}


def test_the_log_says_who_changed_what_when(releases: Releases) -> None:
    added(releases, 2)
    releases.promote("intents", 1)
    assert releases.log()[-1] == {
        "at": 5.0, "by": "ada", "name": "intents", "what": "promoted", "from": 2, "to": 1,
    }  # fmt: skip


def test_changes_at_once_are_all_kept(releases: Releases) -> None:
    added(releases, 2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: releases.promote("intents", 1 + n % 2), range(100)))
    assert len(releases.log()) == 102
    assert [line["what"] for line in releases.log()[2:]] == ["promoted"] * 100


def test_a_reader_never_sees_half_a_change_though_writers_are_killed(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "releases.json")
    added(releases, 2)
    code = (
        "import sys; from pathlib import Path; from serve.releases import Releases\n"
        "r = Releases(Path(sys.argv[1]))\n"
        "while True:\n r.promote('intents', 1); r.promote('intents', 2)\n"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code, str(releases.path)])
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            tree = json.loads(releases.path.read_bytes())
            last = tree["log"][-1]
            assert tree["models"]["intents"]["live"] == last["to"]
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert releases.rollback("intents").live in {1, 2}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"models": {"x": {}}}', '{"more": 1}'])
def test_a_file_that_is_none_is_told_and_kept(releases: Releases, text: str) -> None:
    releases.path.write_text(text)
    with pytest.raises(UserError, match=r"releases\.json"):
        releases.read()
    with pytest.raises(UserError, match="put the file of before back"):
        registered(releases, 1, releases.path.parent)
    assert releases.path.read_text() == text


VERSION = {"number": 1, "bundle": "/x", "digest": "d", "gated": True, "added_at": 5.0}
LINE = {"by": "ada", "name": "x", "what": "added", "from": None, "to": 1}


@pytest.mark.parametrize(
    "tree",
    [
        {"versions": {"one": VERSION}, "live": 1},
        {"versions": {"2": VERSION}, "live": 1},
        {"versions": {"1": VERSION}, "live": 2},
        {"versions": {"1": VERSION}, "live": 1, "before": [9]},
        {"versions": {"1": VERSION}, "live": 1, "canary": {"version": 7, "percent": 5.0}},
        {"versions": {"1": {**VERSION, "added_at": 1e300}}, "live": 1},
        {"versions": {}, "live": 1},
    ],
)
@pytest.mark.parametrize(
    "words", [("promote", "x", "1"), ("promote", "x", "9"), ("rollback", "x"), ("releases", "x")]
)
def test_numbers_that_are_no_versions_are_told_in_one_line(
    releases: Releases, tree: dict[str, Any], words: tuple[str, ...]
) -> None:
    releases.path.write_text(json.dumps({"models": {"x": tree}, "log": []}))
    ended = CliRunner().invoke(main, [*words, "--releases", str(releases.path)])
    assert ended.exit_code == 2
    assert "releases.json: models.x" in ended.output
    assert "put the file of before back" in ended.output


@pytest.mark.parametrize("line", [LINE, {**LINE, "at": "noon"}, {**LINE, "at": 1e300}, {"at": 1.0}])
def test_a_line_of_the_log_that_is_none_is_told(releases: Releases, line: dict[str, Any]) -> None:
    models = {"x": {"versions": {"1": VERSION}, "live": 1}}
    releases.path.write_text(json.dumps({"models": models, "log": [line]}))
    ended = CliRunner().invoke(main, ["releases", "x", "--releases", str(releases.path)])
    assert ended.exit_code == 2
    assert "releases.json: log.0" in ended.output


@pytest.mark.parametrize("place", ["/proc/none/r.json", "/dev/null/r.json", "/" + "x" * 5000])
def test_a_place_that_takes_no_file_is_told(place: str) -> None:
    with pytest.raises(UserError, match=r"cannot be (read|written)"):
        registered(Releases(Path(place)), 1, Path("/x"))
    for words in (("promote", "x", "1"), ("rollback", "x")):
        ended = CliRunner().invoke(main, [*words, "--releases", place])
        assert ended.exit_code == 2, ended.output
        assert "r.json" in ended.output or "xxx" in ended.output


def test_a_user_without_a_name_is_written_by_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    made = Releases(tmp_path / "releases.json")
    registered(made, 1, tmp_path)
    assert made.log()[0]["by"] == f"uid {os.getuid()}"
