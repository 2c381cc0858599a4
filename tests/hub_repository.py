"""The repositories of the hub stand-in, and their files as the hub's JSON describes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

LFS_SUFFIXES = (".safetensors", ".parquet", ".bin")


@dataclass
class Repository:
    """A repository: its commits (all files of each), and its branches."""

    access: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


def git_blob_sha1(content: bytes) -> str:
    """The name that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _lfs(path: str, content: bytes, name: str) -> dict[str, object] | None:
    if not path.endswith(LFS_SUFFIXES):
        return None
    digest = hashlib.sha256(content).hexdigest()
    return {name: digest, "size": len(content), "pointerSize": 134}


def _blob_id(path: str, content: bytes) -> str:
    if not path.endswith(LFS_SUFFIXES):
        return git_blob_sha1(content)
    digest = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize "
    return git_blob_sha1(f"{pointer}{len(content)}\n".encode())


def sibling(path: str, content: bytes, with_blobs: bool) -> dict[str, object]:
    if not with_blobs:
        return {"rfilename": path}
    entry = {"rfilename": path, "size": len(content), "blobId": _blob_id(path, content)}
    lfs = _lfs(path, content, "sha256")
    return {**entry, "lfs": lfs} if lfs else entry


def tree_entry(path: str, content: bytes) -> dict[str, object]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _blob_id(path, content)}
    lfs = _lfs(path, content, "oid")
    return {**entry, "lfs": lfs} if lfs else entry
