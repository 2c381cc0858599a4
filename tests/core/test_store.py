"""The store: whole or not at all, whoever runs beside, whatever the disk says."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from pipeline import process
from pipeline.core.artifact import MANIFEST, Artifact
from pipeline.core.errors import IntegrityError, StoreError
from pipeline.core.stage import StageContext, StageInfo
from pipeline.core.store import Store, default_store, disk_errors
from pipeline.process import Job, make

ROOT = Path(__file__).resolve().parents[2]
KEY = "a" * 64
Commit = Callable[..., Artifact]


class Faithful:
    """Writes two files."""

    def run(self, _inputs: Any, config: Mapping[str, Any], context: StageContext) -> dict[str, Any]:
        (context.out / "one").write_text(config["text"])
        (context.out / "deep").mkdir()
        (context.out / "deep/two").write_text("two")
        return {"rows": 2}


class Failing:
    """Writes one of two files and stops."""

    def run(self, _inputs: Any, _config: Any, context: StageContext) -> dict[str, Any]:
        (context.out / "one").write_text("half")
        (context.work / "checkpoint").write_text("kept")
        raise RuntimeError("in the middle")


class Full:
    """Finds the disk full."""

    def run(self, _inputs: Any, _config: Any, context: StageContext) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device", str(context.out))


class Meddling:
    """Reads a file that somebody changes meanwhile."""

    def run(self, _inputs: Any, _config: Any, context: StageContext) -> dict[str, Any]:
        path = context.files["rows"]
        path.write_text("changed")
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))
        return {}


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        kind.__name__: StageInfo(f"{__name__}:{kind.__name__}", 1, "Dataset")
        for kind in (Faithful, Failing, Full, Meddling)
    }
    monkeypatch.setattr(process, "STAGES", MappingProxyType(table))
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Faithful.__module__])


def job(store: Store, stage: str, files: dict[str, str] | None = None) -> Job:
    return Job("task/x", stage, KEY, {"text": "hello"}, {}, files or {}, {}, str(store.root))


def objects(store: Store) -> list[str]:
    folder = store.root / "objects"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.usefixtures("stages")
def test_a_finished_stage_is_there_whole(store: Store) -> None:
    made = make(job(store, "Faithful"), lambda _event: None)
    found = store.need(KEY)
    assert found.manifest == made.manifest
    assert found.check() == []
    assert found.manifest.facts == {"rows": 2}
    assert [artifact.key for artifact in store.all()] == [KEY]
    assert not (store.root / "work" / KEY).exists()


@pytest.mark.usefixtures("stages")
def test_a_stage_that_stops_in_the_middle_leaves_nothing_visible(store: Store) -> None:
    with pytest.raises(RuntimeError, match="in the middle"):
        make(job(store, "Failing"), lambda _event: None)
    assert store.get(KEY) is None
    assert objects(store) == []
    # Its checkpoints stay for the next run; its half-made output does not get into that.
    assert (store.root / "work" / KEY / "checkpoint").read_text() == "kept"
    made = make(job(store, "Faithful"), lambda _event: None)
    assert sorted(made.manifest.files) == ["deep/two", "one"]


@pytest.mark.usefixtures("stages")
def test_what_another_process_made_meanwhile_is_not_made_again(store: Store) -> None:
    first = make(job(store, "Faithful"), lambda _event: None)
    assert make(job(store, "Failing"), lambda _event: None).manifest == first.manifest


@pytest.mark.usefixtures("stages")
def test_a_full_disk_is_one_line_with_a_remedy(store: Store) -> None:
    with pytest.raises(StoreError, match="the disk is full") as caught:
        make(job(store, "Full"), lambda _event: None)
    message = str(caught.value)
    assert message.startswith(f"{store.root}: ")
    assert "GRADUS_STORE" in message
    assert "\n" not in message
    assert objects(store) == []


@pytest.mark.usefixtures("stages")
def test_a_file_that_changes_while_it_is_read_makes_nothing(store: Store, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("before!")
    with pytest.raises(IntegrityError, match=r"rows\.jsonl: changed while it was read; run again"):
        make(job(store, "Meddling", {"rows": str(rows)}), lambda _event: None)
    assert objects(store) == []


@pytest.mark.usefixtures("stages")
def test_an_input_with_a_flipped_byte_stops_the_stage_above(store: Store, commit: Commit) -> None:
    below = commit(store, "b" * 64, {"weights": b"1234"})
    (below.path / "weights").write_bytes(b"1235")
    above = Job("task/x", "Faithful", KEY, {"text": "x"}, {"root": below.key}, {}, {},
                str(store.root))  # fmt: skip
    with pytest.raises(IntegrityError, match="weights: changed"):
        make(above, lambda _event: None)
    assert objects(store) == [below.key]


def test_before_the_manifest_there_is_nothing(store: Store, monkeypatch: pytest.MonkeyPatch,
                                              commit: Commit) -> None:  # fmt: skip
    seen: list[bool] = []
    rename = Path.rename

    def watched(path: Path, target: Path) -> Path:
        seen.append((path / MANIFEST).is_file() and store.get(KEY) is None)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watched)
    commit(store, KEY, {"a": b"a"})
    assert seen == [True]
    assert store.get(KEY) is not None


def test_a_folder_somebody_left_by_hand_does_not_block(store: Store, commit: Commit) -> None:
    store.path_of(KEY).mkdir(parents=True)
    (store.path_of(KEY) / "junk").write_text("x")
    assert store.get(KEY) is None
    assert commit(store, KEY, {"a": b"a"}).check() == []


def test_what_is_missing_names_its_place_and_remedy(store: Store) -> None:
    with pytest.raises(IntegrityError, match="not in the store; run the recipe again"):
        store.need(KEY)


@pytest.mark.parametrize(
    ("number", "word"), [(errno.ENOSPC, "full"), (errno.EDQUOT, "full"), (errno.EROFS, "read-only"),
                         (errno.EACCES, "not writable")],
)  # fmt: skip
def test_disk_errors_say_what_to_do(tmp_path: Path, number: int, word: str) -> None:
    with (
        pytest.raises(StoreError, match=f"the disk is {word} .* free space"),
        disk_errors(tmp_path),
    ):
        raise OSError(number, os.strerror(number))


def test_other_errors_of_the_system_are_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "gone")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a real full disk needs the mount command")
    if done.returncode:
        pytest.skip(f"a real full disk needs the right to mount one ({done.stderr.strip()})")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_is_a_store_error_and_leaves_no_artifact(
    small_disk: Path, commit: Commit
) -> None:
    store = Store(small_disk)
    commit(store, "1" * 64, {"a": bytes(1000)})
    with pytest.raises(StoreError, match="the disk is full"), disk_errors(store.root):
        commit(store, KEY, {"big": bytes(1 << 20)})
    assert objects(store) == ["1" * 64]
    with pytest.raises(StoreError, match="the disk is full"):
        store.write_json("models/x.json", {"name": "x" * (1 << 20)})
    assert store.models() == []


_HOLDER = """
import sys, time
from pathlib import Path
from pipeline.core.store import Store
store = Store(Path(sys.argv[1]))
with store.locked(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
    (store.root / "order").write_text("first")
"""


@pytest.fixture
def holder(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of KEY until it reads a line."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_HOLDER), str(store.root), KEY],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == "held\n"
        yield running
        running.kill()


def waiting(store: Store) -> tuple[threading.Thread, threading.Event, list[str]]:
    told: list[str] = []
    asked = threading.Event()

    def on_wait(who: str) -> None:
        told.append(who)
        asked.set()

    def body() -> None:
        with store.locked(KEY, on_wait):
            told.append((store.root / "order").read_text() if (store.root / "order").exists()
                        else "holder died")  # fmt: skip

    return threading.Thread(target=body, daemon=True), asked, told


def test_a_second_process_waits_and_says_who_holds_the_lock(
    store: Store, holder: subprocess.Popen[str]
) -> None:
    thread, asked, told = waiting(store)
    thread.start()
    assert asked.wait(10)
    assert f"process {holder.pid} since" in told[0]
    assert thread.is_alive()
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.close()
    thread.join(10)
    assert told[1:] == ["first"]


def test_the_lock_of_a_killed_process_is_free(store: Store, holder: subprocess.Popen[str]) -> None:
    thread, asked, told = waiting(store)
    thread.start()
    assert asked.wait(10)
    holder.send_signal(signal.SIGKILL)
    thread.join(10)
    assert told[1:] == ["holder died"]


def test_locks_of_two_keys_do_not_wait_for_each_other(
    store: Store, holder: subprocess.Popen[str]
) -> None:
    waited: list[str] = []
    with store.locked("b" * 64, waited.append):
        assert holder.poll() is None
    assert waited == []


def test_looks_at_a_test_split_are_counted_and_signed(store: Store) -> None:
    assert [store.count_look("d" * 64, who) for who in ("one", "two", "one")] == [1, 2, 3]
    assert store.count_look("e" * 64, "one") == 1


def test_models_are_listed_by_name(store: Store) -> None:
    for name in ("b", "a"):
        store.write_json(f"models/{name}.json", {"name": name})
    assert [model["name"] for model in store.models()] == ["a", "b"]
    found = store.model("b")
    assert found is not None
    assert (found["name"], found["keys"], found["gates"]) == ("b", {}, {})
    assert store.model("c") is None


def test_store_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADUS_STORE", str(tmp_path / "there"))
    assert default_store() == tmp_path / "there"
    monkeypatch.delenv("GRADUS_STORE")
    monkeypatch.chdir(tmp_path)
    assert default_store() == tmp_path / ".gradus"


def test_reading_an_empty_store_writes_nothing(store: Store) -> None:
    assert list(store.all()) == []
    assert store.models() == []
    assert store.get(KEY) is None
    assert not store.root.exists()
