"""Which files a source names: one, those of a folder, or those behind a URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.core.errors import DataError
from pipeline.core.recipe import shown
from pipeline.data.rows import Refused
from pipeline.data.sources.remote import file_of_url, is_url, named, remote_files, version_of
from pipeline.data.sources.source_file import SourceFile

Found = tuple[str, SourceFile | Refused]


def find_files(path: str, files: tuple[str, ...], place: str) -> list[SourceFile | Refused]:
    """The files of a source, sorted; what cannot be read by its name or kind is Refused.

    A folder is taken whole, hidden files and folders left out.

    Args:
        path: a local path or a URL of fsspec.
        files: patterns over paths within the folder (``*`` also takes a ``/``); empty takes all.
        place: opens every error.

    Raises:
        DataError: nothing there, nothing that fits ``files``, or one file that nobody reads.
    """
    found, folder = _found(path, place)
    name = named(path) if is_url(path) else shown(Path(path))
    if not folder:
        if files:
            raise DataError(f"{place}: {name}: a file; files chooses among those of a folder")
        problem = found[0][1].problem if isinstance(found[0][1], SourceFile) else None
        if problem:
            raise DataError(f"{place}: {name}: {problem}")
    kept = [
        _refused_by_name(entry)
        for inside, entry in found
        if not files or any(fnmatchcase(inside, pattern) for pattern in files)
    ]
    if not kept:
        among = f" that fits {', '.join(files)}" if files else ""
        raise DataError(f"{place}: {name}: holds no file{among}; check the folder")
    return kept


def local_files(path: str, files: tuple[str, ...] = ()) -> list[Path]:
    """The local files that make the rows, sorted: what a plan digests, names included.

    Those that are refused by their name are among them, since their number is counted. A URL
    has none (see ``remote_identity``), but one of ``file://`` has.

    Raises:
        DataError: nothing there.
    """
    local = file_of_url(path) if is_url(path) else path
    if local is None:
        return []
    found = find_files(local, files, "local files")
    paths = [Path(each.path if isinstance(each, SourceFile) else each.place) for each in found]
    return [each.absolute() for each in paths if each.is_file()]


def remote_identity(path: str, files: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Each file behind a URL with what tells its version; a path that is no URL has none.

    Raises:
        DataError: the URL cannot be read.
    """
    if not is_url(path):
        return []
    found = find_files(path, files, "remote files")
    return [
        (each.shown, version_of(each)) if isinstance(each, SourceFile) else (each.place, "")
        for each in found
    ]


def _found(path: str, place: str) -> tuple[list[Found], bool]:
    local = file_of_url(path) if is_url(path) else path
    if local is not None:
        return _local(Path(local), place)
    files, folder = remote_files(path, place)
    return [(file.inside or "", file) for file in files], folder


def _refused_by_name(entry: SourceFile | Refused) -> SourceFile | Refused:
    if isinstance(entry, SourceFile) and entry.problem is not None:
        return Refused(entry.shown, entry.problem, "")
    return entry


def _local(path: Path, place: str) -> tuple[list[Found], bool]:
    try:
        if path.is_dir():
            return sorted(_walked(path), key=lambda found: found[0]), True
        # is_file says False where it may not look; stat tells why.
        path.stat()
        if path.is_file():
            return [("", SourceFile(shown(path), str(path)))], False
        reason = "neither a file nor a folder"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        path = Path(getattr(error, "filename", None) or path)
    raise DataError(f"{place}: {shown(path)}: {reason}; check the path")


def _walked(folder: Path) -> Iterator[Found]:
    root = folder.resolve()
    for here, folders, names in os.walk(folder, onerror=_stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        # A link to a folder within is not followed: its files are read where they stand.
        linked = [name for name in folders if Path(here, name).is_symlink()]
        for name in [*names, *(each for each in linked if not _within(Path(here, each), root))]:
            if not name.startswith("."):
                path = Path(here, name)
                inside = path.relative_to(folder).as_posix()
                yield inside, _entry(path, inside, root)


def _stop(error: OSError) -> None:
    raise error


def _entry(path: Path, inside: str, root: Path) -> SourceFile | Refused:
    if not _within(path, root):
        return Refused(shown(path), "a link that leads out of the folder or nowhere", "")
    if not path.is_file():
        # To open a pipe would wait for ever.
        return Refused(shown(path), "not a plain file", "")
    return SourceFile(shown(path), str(path), inside)


def _within(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        return False
