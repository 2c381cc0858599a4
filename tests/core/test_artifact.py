"""Artifacts: what is there is whole, and what is not whole is named."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.artifact import MANIFEST, Artifact, read_artifact, scan_files
from pipeline.core.digest import DigestCache, canonical_json, file_digest, tree_digest
from pipeline.core.errors import IntegrityError
from pipeline.core.store import Store

Commit = Callable[..., Artifact]
FILES = {"a.bin": b"aaaa", "deep/b.bin": b"bbbb", "c.json": b"{}"}


@pytest.fixture
def made(store: Store, commit: Commit) -> Artifact:
    return commit(store, "k" * 64, FILES)


def test_digests_are_those_of_hashlib(made: Artifact) -> None:
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    assert made.manifest.files == expected
    pairs = json.dumps(sorted(expected.items()), separators=(",", ":"))
    assert made.digest == hashlib.sha256(pairs.encode()).hexdigest()


def test_digest_does_not_depend_on_order_or_time(store: Store, commit: Commit) -> None:
    one = commit(store, "1" * 64, FILES)
    other = commit(store, "2" * 64, dict(reversed(FILES.items())))
    for path in other.path.rglob("*"):
        os.utime(path, (1, 1))
    assert other.digest == one.digest
    assert tree_digest(scan_files(other.path)) == one.digest
    turned = dict(reversed(one.manifest.files.items()))
    assert tree_digest(turned) == one.digest
    assert other.check() == []


def test_digest_depends_on_the_name_of_a_file(store: Store, commit: Commit) -> None:
    one = commit(store, "1" * 64, {"a": b"x", "b": b"y"})
    other = commit(store, "2" * 64, {"b": b"x", "a": b"y"})
    assert one.digest != other.digest


def test_whole_artifact_has_no_problems(made: Artifact) -> None:
    assert made.check() == []
    made.require_whole()


@pytest.mark.parametrize("name", sorted(FILES))
def test_one_flipped_bit_is_found_and_named(made: Artifact, name: str) -> None:
    path = made.path / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert [problem.partition(": ")[0] for problem in made.check()] == [str(path)]
    with pytest.raises(IntegrityError, match=r"changed .*; delete that folder and run again"):
        made.require_whole()


def test_missing_and_extra_files_are_named(made: Artifact) -> None:
    (made.path / "a.bin").unlink()
    (made.path / "deep/new.bin").write_bytes(b"")
    problems = made.check()
    assert f"{made.path}/a.bin: missing" in problems
    assert f"{made.path}/deep/new.bin: not in the manifest" in problems
    assert len(problems) == 2


def test_a_manifest_whose_digest_was_changed_is_named(made: Artifact) -> None:
    file = made.path / MANIFEST
    tree = json.loads(file.read_text())
    file.write_text(json.dumps({**tree, "digest": "0" * 64}))
    found = read_artifact(made.path)
    assert found is not None
    assert found.check() == [f"{file}: its digest does not follow from its files"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"kind": "Model"}'])
def test_a_torn_manifest_is_an_error_with_a_remedy(made: Artifact, content: bytes) -> None:
    (made.path / MANIFEST).write_bytes(content)
    with pytest.raises(IntegrityError, match="not a manifest") as caught:
        read_artifact(made.path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_manifest_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a")
    assert read_artifact(tmp_path) is None
    assert read_artifact(tmp_path / "gone") is None


def test_canonical_json_is_one_text_for_one_value() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == canonical_json({"a": "é", "b": [1, 2.5]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_digest_cache_reads_a_file_again_when_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"one")
    DigestCache(tmp_path / "digests.json").of(file)
    cache = DigestCache(tmp_path / "digests.json")
    assert cache.of(file) == file_digest(file)
    cache.save()
    file.write_bytes(b"two")
    os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns + 1_000_000))
    assert DigestCache(tmp_path / "digests.json").of(file) == file_digest(file)


def test_digest_cache_survives_losing_its_memory(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"one")
    (tmp_path / "digests.json").write_bytes(b"{ torn")
    assert DigestCache(tmp_path / "digests.json").of(file) == file_digest(file)
