"""The lock file: what is written is read again, and what is broken says where."""

from __future__ import annotations

import errno
from datetime import date
from pathlib import Path

import pytest
import yaml

from pipeline.core.errors import LockError, StoreError
from pipeline.core.lock import LockFile, lock_path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
DIGITS = "1" * 40
DAY = date(2026, 1, 31)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tmp_path / "l2-intents.yaml"


def _locked(recipe: Path) -> LockFile:
    lock = LockFile.load(recipe)
    lock = lock.with_entry("model", "Qwen/Qwen3-0.6B", None, COMMIT, DAY)
    lock = lock.with_entry("dataset", "mteb/banking77", "refs/convert/parquet", DIGITS, DAY)
    return lock.with_entry("dataset", "mteb/banking77", "main", OTHER, DAY)


def test_lock_lies_beside_its_recipe(recipe: Path) -> None:
    _locked(recipe).save()
    assert lock_path(recipe) == recipe.parent / "l2-intents.lock"
    assert [path.name for path in recipe.parent.iterdir()] == ["l2-intents.lock"]


def test_no_lock_file_is_an_empty_lock(recipe: Path) -> None:
    assert LockFile.load(recipe).get("model", "Qwen/Qwen3-0.6B", None) is None


def test_saved_entries_are_read_again(recipe: Path) -> None:
    _locked(recipe).save()
    lock = LockFile.load(recipe)
    assert lock == _locked(recipe)
    assert lock.get("model", "Qwen/Qwen3-0.6B", "main") == COMMIT
    assert lock.get("dataset", "mteb/banking77", "refs/convert/parquet") == DIGITS
    assert lock.get("dataset", "mteb/banking77", None) == OTHER


def test_a_model_and_a_data_set_of_one_name_are_two(recipe: Path) -> None:
    lock = LockFile.load(recipe).with_entry("model", "a/b", None, COMMIT)
    assert lock.get("dataset", "a/b", None) is None


def test_a_whole_commit_needs_no_entry(recipe: Path) -> None:
    assert LockFile.load(recipe).get("model", "a/b", COMMIT) == COMMIT
    assert LockFile.load(recipe).get("model", "a/b", COMMIT[:12]) is None


def test_another_yaml_reader_sees_the_same_entries(recipe: Path) -> None:
    _locked(recipe).save()
    text = lock_path(recipe).read_text(encoding="utf-8")
    assert text.startswith("# Written by gradus")
    assert "l2-intents.yaml" in text.splitlines()[0]
    entries = yaml.safe_load(text)["entries"]
    assert [(entry["type"], entry["revision"]) for entry in entries] == [
        ("dataset", "main"),
        ("dataset", "refs/convert/parquet"),
        ("model", "main"),
    ]
    assert entries[1]["commit"] == DIGITS
    assert entries[0]["resolved"] == "2026-01-31"


def test_bytes_do_not_depend_on_the_order_of_locking(recipe: Path) -> None:
    one = LockFile.load(recipe).with_entry("model", "b/b", None, COMMIT, DAY)
    other = LockFile.load(recipe).with_entry("model", "a/a", None, OTHER, DAY)
    one = one.with_entry("model", "a/a", None, OTHER, DAY)
    other = other.with_entry("model", "b/b", None, COMMIT, DAY)
    assert one.text() == other.text()


def test_a_second_entry_takes_the_place_of_the_first(recipe: Path) -> None:
    lock = _locked(recipe).with_entry("model", "Qwen/Qwen3-0.6B", "main", OTHER, DAY)
    assert lock.get("model", "Qwen/Qwen3-0.6B", None) == OTHER
    assert len(lock.entries) == 3


def test_a_short_commit_is_not_locked(recipe: Path) -> None:
    with pytest.raises(LockError, match="'0123456' is not a 40-digit commit"):
        LockFile.load(recipe).with_entry("model", "a/b", None, "0123456")


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("version: 1", "version: 2", 3, "version is 2"),
        (f"  commit: {OTHER}", "  commit: fff", 8, "commit is 'fff'"),
        ("- type: model", "- type: modell", 15, "type is 'modell'"),
        ("  id: Qwen/Qwen3-0.6B\n", "", 15, "id is missing"),
        ("- type: model", "<<<<<<< HEAD\n- type: model", 15, "could not find expected ':'"),
        ("'2026-01-31'", "yesterday", 9, "resolved is 'yesterday'"),
        ("  revision: refs/convert/parquet", "  revision: main", 10, "stands twice"),
        ("  revision: main", "  branch: main", 7, "unexpected key 'branch'"),
        ("entries:", "entries: none\nrest:", 4, "could not find|unexpected key|not a list"),
    ],
)
def test_a_broken_lock_names_its_line(
    recipe: Path, old: str, new: str, line: int, problem: str
) -> None:
    _locked(recipe).save()
    path = lock_path(recipe)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(LockError, match=problem) as caught:
        LockFile.load(recipe)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}:")
    # YAML names the line after the one that lacks its colon.
    assert abs(int(message[len(str(path)) + 1 :].split(":")[0]) - line) <= 1


def test_an_empty_lock_file_does_not_unlock(recipe: Path) -> None:
    lock_path(recipe).write_text("", encoding="utf-8")
    with pytest.raises(LockError, match="empty"):
        LockFile.load(recipe)


def test_a_lock_file_of_other_bytes_is_one_line(recipe: Path) -> None:
    lock_path(recipe).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LockError, match="cannot be read") as caught:
        LockFile.load(recipe)
    assert "\n" not in str(caught.value)


def test_a_failed_save_keeps_the_old_lock(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _locked(recipe).save()
    before = lock_path(recipe).read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="disk is full"):
        _locked(recipe).with_entry("model", "new/new", None, COMMIT).save()
    assert lock_path(recipe).read_bytes() == before
    assert [path.name for path in recipe.parent.iterdir()] == ["l2-intents.lock"]
