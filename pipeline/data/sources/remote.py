"""Files behind a URL: fsspec reads them, and its errors become one line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

from pipeline.core.errors import DataError
from pipeline.data.sources.chunks import BrokenOff
from pipeline.data.sources.source_file import SourceFile

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
# The first that a server tells; times last, since some servers make them up at each request.
_VERSIONS = ("ETag", "etag", "md5Hash", "sha256", "LastModified", "mtime", "created")


def is_url(path: str) -> bool:
    """Whether fsspec is to read it, and not the local file system."""
    return _URL.match(path) is not None


def file_of_url(url: str) -> str | None:
    """The local path of a ``file://`` URL; None for every other."""
    return url.removeprefix("file://") if url.startswith("file:///") else None


def remote_files(url: str, place: str) -> tuple[list[SourceFile], bool]:
    """The files behind a URL, sorted, hidden ones left out, and whether it is a folder.

    Raises:
        DataError: nothing there, or the URL cannot be read.
    """
    import fsspec

    name = named(url)
    with told(name, place):
        system, address = fsspec.core.url_to_fs(url)
        # A web server has no folders: asking it for one would fetch a page.
        if url.startswith("http"):
            return [SourceFile(name, urlsplit(url).path, None, system, address)], False
        if not system.isdir(address):
            if not system.exists(address):
                raise DataError(f"{place}: {name}: no such file or folder; check the URL")
            return [SourceFile(name, address, None, system, address)], False
        found = sorted(system.find(address))
    files = []
    for each in found:
        inside = each.removeprefix(address.rstrip("/")).lstrip("/")
        if not any(part.startswith(".") for part in PurePosixPath(inside).parts):
            files.append(SourceFile(f"{name.rstrip('/')}/{inside}", each, inside, system, each))
    return files, True


def version_of(file: SourceFile) -> str:
    """What tells a file's version: its server's size and ETag or time, or a local file's digest.

    Raises:
        DataError: the file cannot be asked for.
    """
    if not file.remote:
        with Path(file.path).open("rb") as stream:
            return f"sha256={hashlib.file_digest(stream, 'sha256').hexdigest()}"
    with told(file.shown, "version"):
        info = file.system.info(file.address)
    first = next((f" {name}={info[name]}" for name in _VERSIONS if info.get(name)), "")
    return f"size={info.get('size')}{first}"


def named(url: str) -> str:
    """How a URL is shown: user, password, query and fragment are the user's secrets."""
    first = url.split("::")[0]
    parts = urlsplit(first)
    if "@" not in parts.netloc and not first.startswith("http"):
        return first
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def told(name: str, place: str) -> Iterator[None]:
    """Turns whatever a remote file system raises into one line.

    Raises:
        DataError: in place of every other exception.
    """
    try:
        yield
    except (DataError, BrokenOff):
        raise
    except Exception as error:
        kind = type(error).__name__
        # The message of a web error repeats the URL, and with it the user's secrets.
        lines = [] if name.startswith("http") else str(error).strip().splitlines()
        reason = f"{kind}: {lines[0][:200]}" if lines else kind
        status = getattr(error, "status", None)
        if status is not None:
            reason += f" (status {status})"
        raise DataError(
            f"{place}: {name}: {reason}; check the URL (fsspec may need a package for it)"
        ) from None
