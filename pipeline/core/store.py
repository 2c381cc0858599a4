"""The store: where artifacts lie by key, whole or not at all.

objects/KEY/       an artifact; renamed into place after its manifest
work/KEY/          what a stage is at: its draft and its checkpoints
locks/KEY.lock     held (flock) by the process that makes KEY; the kernel frees it
models/NAME.json   the named models and what they are made of
runs/*.json        who made what when; never part of identity
looks/DIGEST       how often a test split was looked at
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact, Manifest, read_artifact, scan_files, write_manifest
from pipeline.core.digest import DigestCache, tree_digest
from pipeline.core.errors import IntegrityError, StoreError

DEFAULT_STORE = ".gradus"


def default_store() -> Path:
    """GRADUS_STORE, or ``.gradus`` in the working folder."""
    return Path(os.environ.get("GRADUS_STORE") or DEFAULT_STORE).expanduser().resolve()


class Store:
    """Artifacts by key. Safe for several processes at once."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or default_store()).resolve()
        self.digests = DigestCache(self.root / "digests.json")

    def path_of(self, key: str) -> Path:
        """Where the artifact of ``key`` lies or will lie."""
        return self.root / "objects" / key

    def get(self, key: str) -> Artifact | None:
        """The artifact of ``key``, or None."""
        return read_artifact(self.path_of(key))

    def need(self, key: str) -> Artifact:
        """The artifact of ``key``; IntegrityError where it is not there."""
        artifact = self.get(key)
        if artifact is None:
            raise IntegrityError(f"{self.path_of(key)}: not in the store; run the recipe again")
        return artifact

    def all(self) -> Iterator[Artifact]:
        """Every whole artifact, sorted by key."""
        folder = self.root / "objects"
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            artifact = read_artifact(path)
            if artifact is not None:
                yield artifact

    def work_dir(self, key: str) -> Path:
        """The folder for checkpoints of ``key``; it outlives a killed run."""
        folder = self.root / "work" / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def new_draft(self, key: str) -> Path:
        """An empty folder for the output of ``key``."""
        draft = self.work_dir(key) / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        return draft

    def commit(self, draft: Path, manifest: Manifest) -> Artifact:
        """Digests, manifest, rename: after this the artifact is there, before it is not."""
        files = scan_files(draft)
        whole = replace(manifest, files=files, digest=tree_digest(files))
        write_manifest(draft, whole)
        target = self.path_of(manifest.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A folder without a whole manifest can only be left by hand; it would block the rename.
        if target.exists() and read_artifact(target) is None:
            shutil.rmtree(target)
        draft.rename(target)
        _sync_folder(target.parent)
        shutil.rmtree(self.root / "work" / manifest.key, ignore_errors=True)
        return Artifact(target, whole)

    @contextlib.contextmanager
    def locked(self, key: str, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Holds the lock of ``key``; waits for another holder and says who it is."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{key}.lock").open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                if on_wait is not None:
                    on_wait(stream.read().strip() or "another process")
                fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            stream.truncate()
            stream.write(f"process {os.getpid()} since {time.strftime('%H:%M:%S')}")
            stream.flush()
            try:
                yield
            finally:
                stream.seek(0)
                stream.truncate()

    def write_json(self, relative: str, value: Any) -> Path:
        """Writes a JSON file of the store atomically."""
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with disk_errors(self.root):
            draft.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
            draft.replace(path)
        return path

    def models(self) -> list[dict[str, Any]]:
        """The named models, sorted by name."""
        folder = self.root / "models"
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
        found = []
        for path in files:
            try:
                found.append(_entry(json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, ValueError, RecursionError) as error:
                raise IntegrityError(
                    f"{path}: cannot be read ({error}); delete it and run the recipe again"
                ) from None
        return found

    def model(self, name: str) -> dict[str, Any] | None:
        """One named model, or None."""
        return next((m for m in self.models() if m["name"] == name), None)

    def count_look(self, digest: str, who: str) -> int:
        """Notes that a test split was looked at; the number of looks so far, this one in."""
        path = self.root / "looks" / digest[:32]
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "by": who})
        with path.open("a+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.write(line + "\n")
            stream.flush()
            stream.seek(0)
            return sum(1 for _ in stream)


def _entry(tree: Any) -> dict[str, Any]:
    """A named model's file as its readers take it.

    Raises:
        ValueError: it is of another shape.
    """
    if not isinstance(tree, dict) or not isinstance(tree.get("name"), str):
        raise ValueError("names no model")
    made = {"recipe": "RECIPE", "keys": {}, "gates": {}, **tree}
    if not isinstance(made["gates"], dict) or not _texts(made["keys"]):
        raise ValueError("its keys or gates are none")
    return made


def _texts(tree: Any) -> bool:
    return isinstance(tree, dict) and all(isinstance(value, str) for value in tree.values())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turns a full or read-only disk into one line with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}:
            raise
        reason = {errno.EROFS: "read-only", errno.EACCES: "not writable"}.get(error.errno, "full")
        raise StoreError(
            f"{root}: the disk is {reason} ({error.strerror}); "
            "free space there or set GRADUS_STORE to another folder, then run again"
        ) from error
