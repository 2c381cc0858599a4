"""The lock file beside a recipe: which commit each hub revision stood for at its first use.

``recipes/x.yaml`` has ``recipes/x.lock``: YAML, entries sorted, so that the same entries are
always the same bytes and a change reads well in a diff.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, cast

import yaml

from pipeline.core.errors import LockError, StoreError

RepoType = Literal["model", "dataset"]

DEFAULT_REVISION = "main"
_VERSION = "1"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HEADER = """\
# Written by gradus: the commit that each hub revision of {recipe} stood for at first use.
# Keep it under version control; delete an entry to have its revision resolved anew.
"""


@dataclass(frozen=True, order=True)
class LockEntry:
    """One hub revision and what it stood for.

    Attributes:
        type: ``model`` or ``dataset``.
        id: the repository, ``owner/name``.
        revision: the branch, tag or commit that the recipe asks for.
        commit: the commit it stood for, 40 hex digits.
        resolved: the day (UTC) on which the hub said so.
    """

    type: RepoType
    id: str
    revision: str
    commit: str
    resolved: date


@dataclass(frozen=True)
class LockFile:
    """The lock file of one recipe.

    Attributes:
        path: the lock file itself; it need not exist.
        entries: sorted by type, id and revision.
    """

    path: Path
    entries: tuple[LockEntry, ...] = ()

    @classmethod
    def load(cls, recipe_path: Path) -> LockFile:
        """The lock file beside ``recipe_path``; empty where there is none.

        Raises:
            LockError: it cannot be read, or is not a lock file; one line with file and line.
        """
        path = lock_path(recipe_path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls(path)
        except (OSError, UnicodeDecodeError) as error:
            raise LockError(f"{path}: cannot be read ({error}); {_REMEDY}") from error
        return cls(path, tuple(sorted(_parse(path, text))))

    def get(self, repo_type: RepoType, repo_id: str, revision: str | None) -> str | None:
        """The locked commit, or None. A revision that is a whole commit needs no entry."""
        asked = revision or DEFAULT_REVISION
        if _COMMIT.fullmatch(asked):
            return asked
        for entry in self.entries:
            if (entry.type, entry.id, entry.revision) == (repo_type, repo_id, asked):
                return entry.commit
        return None

    def with_entry(
        self,
        repo_type: RepoType,
        repo_id: str,
        revision: str | None,
        commit: str,
        resolved: date | None = None,
    ) -> LockFile:
        """A lock file that holds this entry too, in place of an earlier one.

        Args:
            repo_type: ``model`` or ``dataset``.
            repo_id: the repository, ``owner/name``.
            revision: what the recipe asks for; None is the default branch ``main``.
            commit: what it stands for, 40 hex digits.
            resolved: the day it was resolved, today (UTC) if not given.

        Raises:
            LockError: ``commit`` is not a whole commit.
        """
        asked = revision or DEFAULT_REVISION
        if not _COMMIT.fullmatch(commit):
            raise LockError(f"{self.path}: {repo_id}@{asked}: {commit!r} is not a 40-digit commit")
        day = resolved or datetime.now(UTC).date()
        new = LockEntry(repo_type, repo_id, asked, commit, day)
        others = (entry for entry in self.entries if _key(entry) != _key(new))
        return replace(self, entries=tuple(sorted((*others, new))))

    def text(self) -> str:
        """The bytes of the file: a function of the entries alone."""
        entries = [
            {
                "type": entry.type,
                "id": entry.id,
                "revision": entry.revision,
                "commit": entry.commit,
                "resolved": entry.resolved.isoformat(),
            }
            for entry in self.entries
        ]
        body = yaml.safe_dump({"version": int(_VERSION), "entries": entries}, sort_keys=False)
        return _HEADER.format(recipe=f"{self.path.stem}.yaml") + body

    def save(self) -> None:
        """Writes the file whole or not at all.

        Raises:
            StoreError: the disk is full.
            LockError: the folder cannot be written.
        """
        try:
            _write_atomically(self.path, self.text())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreError(f"{self.path}: the disk is full; free some space") from error
            raise LockError(
                f"{self.path}: cannot be written ({error.strerror}); "
                "make the folder writable, or lock on another machine and copy the file here"
            ) from error


def lock_path(recipe_path: Path) -> Path:
    """``recipes/x.lock`` of ``recipes/x.yaml``."""
    return recipe_path.with_suffix(".lock")


_REMEDY = "restore it from version control, or delete it to have its revisions resolved anew"
_FIELDS = tuple(field.name for field in fields(LockEntry))


def _key(entry: LockEntry) -> tuple[str, str, str]:
    return entry.type, entry.id, entry.revision


def _write_atomically(path: Path, text: str) -> None:
    # Two runs may lock at once: each needs a temporary file of its own.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _parse(path: Path, text: str) -> Iterator[LockEntry]:
    # Nodes rather than values: they know their lines, and a commit of digits stays a text.
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "not YAML"
        raise LockError(f"{path}:{line}: {problem}; {_REMEDY}") from error
    if root is None:
        raise LockError(f"{path}:1: the file is empty; {_REMEDY}")
    top = _mapping(path, root, ("version", "entries"))
    version = _text(path, top["version"])
    if version != _VERSION:
        raise _broken(path, top["version"], f"version is {version}, this gradus reads {_VERSION}")
    if not isinstance(top["entries"], yaml.SequenceNode):
        raise _broken(path, top["entries"], "entries is not a list")
    seen: set[tuple[str, str, str]] = set()
    for node in top["entries"].value:
        entry = _entry(path, node)
        if _key(entry) in seen:
            raise _broken(path, node, f"{entry.type} {entry.id}@{entry.revision} stands twice")
        seen.add(_key(entry))
        yield entry


def _entry(path: Path, node: yaml.Node) -> LockEntry:
    values = _mapping(path, node, _FIELDS)
    found = {name: _text(path, value) for name, value in values.items()}
    if found["type"] not in ("model", "dataset"):
        raise _broken(path, values["type"], f"type is {found['type']!r}, not model or dataset")
    if not _COMMIT.fullmatch(found["commit"]):
        commit = found["commit"]
        raise _broken(path, values["commit"], f"commit is {commit!r}, not 40 hex digits")
    try:
        day = date.fromisoformat(found["resolved"])
    except ValueError as error:
        problem = f"resolved is {found['resolved']!r}, not a date such as 2026-01-31"
        raise _broken(path, values["resolved"], problem) from error
    repo_type = cast(RepoType, found["type"])
    return LockEntry(repo_type, found["id"], found["revision"], found["commit"], day)


def _mapping(path: Path, node: yaml.Node, names: tuple[str, ...]) -> dict[str, yaml.Node]:
    wanted = ", ".join(names)
    if not isinstance(node, yaml.MappingNode):
        raise _broken(path, node, f"expected the keys {wanted}")
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = _text(path, key)
        if name not in names or name in found:
            raise _broken(path, key, f"unexpected key {name!r}; expected {wanted}, each once")
        found[name] = value
    missing = [name for name in names if name not in found]
    if missing:
        raise _broken(path, node, f"{missing[0]} is missing")
    return found


def _text(path: Path, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        raise _broken(path, node, "expected a text")
    return str(node.value)


def _broken(path: Path, node: yaml.Node, problem: str) -> LockError:
    return LockError(f"{path}:{node.start_mark.line + 1}: {problem}; {_REMEDY}")
