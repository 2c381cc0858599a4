"""SHA-256 of files, folders and JSON: what keys and digests are made of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, NaN refused."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def text_digest(text: str) -> str:
    """SHA-256 of the UTF-8 bytes of ``text``, 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of one file, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Every file below ``folder``, sorted by its relative path; hidden ones are left out."""
    found = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def tree_digest(files: Mapping[str, str]) -> str:
    """SHA-256 over sorted (relative path, SHA-256) pairs: the digest of an artifact."""
    return text_digest(canonical_json(sorted(files.items())))


class DigestCache:
    """Digests of local files, remembered by (path, size, modification time, inode).

    Planning must not read a 16 GB base again each time. The memory is a JSON file of the
    store; losing it costs time only.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, str] = {}
        self._changed = False
        try:
            kept = json.loads(file.read_text())
        except (OSError, ValueError, RecursionError):
            return
        if isinstance(kept, dict):
            self._known = {name: told for name, told in kept.items() if isinstance(told, str)}

    def of(self, path: Path) -> str:
        """Digest of a file, or of a folder's tree."""
        if path.is_dir():
            return tree_digest(
                {p.relative_to(path).as_posix(): self.of(p) for p in files_below(path)}
            )
        stat = path.stat()
        identity = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
        if identity not in self._known:
            self._known[identity] = file_digest(path)
            self._changed = True
        return self._known[identity]

    def save(self) -> None:
        """Keeps what was learned; a store that cannot be written is no error here."""
        if not self._changed:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft = self._file.with_suffix(f".{os.getpid()}.tmp")
            draft.write_text(json.dumps(self._known))
            draft.replace(self._file)
        except OSError:
            return
