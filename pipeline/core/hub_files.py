"""Which files of a hub repository are wanted, and whether those on disk are whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.core.errors import HubError, ModelError
from pipeline.core.hub_errors import Asked

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

# Where huggingface_hub keeps its own notes; a repository's files of that name would mix with them.
NOTES = ".cache/huggingface"

_PICKLED_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_PICKLED = (*_PICKLED_WEIGHTS, "*.pkl", "*.pickle", "*.joblib")
_OTHER_FORMATS = ("*.h5", "*.msgpack", "*.ot", "*.gguf", "*.tflite", "onnx/*", "openvino/*")
_PICKLED_ROWS = ("*.pkl", "*.pickle", "*.pt", "*.pth", "*.joblib")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class HubFile:
    """One file of a snapshot and the checksum that the hub promises for it.

    Attributes:
        path: relative to the repository's root, with slashes.
        size_bytes: its size.
        algorithm: ``sha256`` of the content (files in LFS) or ``git``, the SHA-1 of the blob.
        digest: in hex digits.
    """

    path: str
    size_bytes: int
    algorithm: str
    digest: str


def chosen_files(
    asked: Asked,
    siblings: Iterable[RepoSibling],
    allow_patterns: Sequence[str] | None,
    ignore_patterns: Sequence[str] | None,
) -> list[HubFile]:
    """The files to fetch, sorted by path.

    Args:
        asked: the repository, for errors.
        siblings: its files as the hub describes them, checksums included.
        allow_patterns: only files that match one of these shell patterns, if given.
        ignore_patterns: and none that match one of these.

    Raises:
        HubError: nothing is left, a name leads out of the folder, or a checksum is missing.
        ModelError: a model's weights are pickled, and there are no others.
    """
    by_path = {sibling.rfilename: sibling for sibling in siblings}
    ignore = [*(ignore_patterns or ()), f"{NOTES}/*"]
    paths = _matching(by_path, allow_patterns, ignore)
    if asked.repo_type == "model":
        kept = _matching(paths, None, [*_PICKLED, *_OTHER_FORMATS])
        if not any(path.endswith(".safetensors") for path in kept):
            _refuse_pickled(asked, _matching(paths, _PICKLED_WEIGHTS, ()))
    else:
        kept = _matching(paths, None, _PICKLED_ROWS)
    if not kept:
        raise HubError(
            f"{asked}: none of its {len(by_path)} files is wanted; check the id and the patterns"
        )
    return [_file(asked, by_path[path]) for path in sorted(kept)]


def _matching(
    paths: Iterable[str], allow: Sequence[str] | None, ignore: Sequence[str]
) -> list[str]:
    return [
        path
        for path in paths
        if (allow is None or any(fnmatchcase(path, pattern) for pattern in allow))
        and not any(fnmatchcase(path, pattern) for pattern in ignore)
    ]


def _refuse_pickled(asked: Asked, pickled: Sequence[str]) -> None:
    weights = [path for path in pickled if PurePosixPath(path).name != "training_args.bin"]
    if weights:
        raise ModelError(
            f"{asked}: its weights are pickled only ({weights[0]}), and unpickling runs code; "
            "choose a revision or repository with .safetensors files"
        )


def _file(asked: Asked, sibling: RepoSibling) -> HubFile:
    path = PurePosixPath(sibling.rfilename)
    if path.is_absolute() or ".." in path.parts or "\\" in sibling.rfilename:
        raise HubError(f"{asked}: the file name {str(path)!r} leads out of its folder; do not use")
    size_bytes = sibling.size or 0
    if sibling.lfs is not None:
        return HubFile(sibling.rfilename, size_bytes, "sha256", sibling.lfs.sha256)
    if not sibling.blob_id:
        raise HubError(
            f"{asked}: {asked.endpoint} gives no checksum for {path}; set HF_ENDPOINT to a hub "
            "or mirror that does"
        )
    return HubFile(sibling.rfilename, size_bytes, "git", sibling.blob_id)


def is_whole(out: Path, file: HubFile) -> bool:
    """Whether the file is in ``out`` with the size and checksum that the hub promises."""
    path = out / file.path
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    return _digest(path, file) == file.digest


def require_whole(asked: Asked, out: Path, files: Sequence[HubFile]) -> None:
    """Checks the files and removes those that are not what the hub promises.

    Raises:
        HubError: names the first such file, what was expected and what came.
    """
    wrong: list[str] = []
    for file in files:
        path = out / file.path
        if not path.is_file():
            wrong.append(f"{file.path} did not arrive")
        elif (got := _digest(path, file)) != file.digest:
            wrong.append(f"{file.path} has {file.algorithm} {got}, the hub promises {file.digest}")
            path.unlink()
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise HubError(
            f"{asked}: {wrong[0]}{more}; removed: run again to fetch it anew, and if it stays "
            "wrong look for a proxy or mirror that changes files"
        )


def _digest(path: Path, file: HubFile) -> str:
    if file.algorithm == "sha256":
        checksum = hashlib.sha256()
    else:
        # Git's object name of a blob, git-hash-object(1): a header, then the content.
        checksum = hashlib.sha1(usedforsecurity=False)
        checksum.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            checksum.update(chunk)
    return checksum.hexdigest()
