"""Files behind a URL: fsspec reads them, and its errors become one line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from pipeline.core.errors import DataError
from pipeline.data.sources.chunks import BrokenOff, mebibytes
from pipeline.data.sources.source_file import SourceFile

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
# As fsspec's file systems name them; the first that one tells counts. Digests stand before times,
# since some servers make the time up at each request.
_VERSIONS = (
    "ETag", "etag", "Content-MD5", "Digest", "md5Hash", "content_md5", "sha256", "sha", "blob_id",
    "CRC", "Last-Modified", "LastModified", "last_modified", "modificationTime", "modify", "mtime",
    "created",
)  # fmt: skip
# Without a version a plan reads the file; a larger one would make every plan wait.
MOST_HASHED_BYTES = 1 << 26
# Parameters of a URL that let its holder in, letters and digits of their names alone.
_CREDENTIALS = frozenset({"auth", "authorization", "jwt", "key", "pwd", "sas", "sig"})
_CREDENTIAL_STARTS = ("xamz", "xgoog")
_CREDENTIAL_ENDS = (
    "accesskey", "accesskeyid", "accountkey", "apikey", "authkey", "credential", "credentials",
    "passwd", "password", "privatekey", "secret", "secretkey", "signature", "token",
)  # fmt: skip


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
    """What tells a file's version: its server's size and ETag or time, else its digest.

    Raises:
        DataError: the file cannot be asked for, or tells no version and is too long to be read.
    """
    if not file.remote:
        with Path(file.path).open("rb") as stream:
            return f"sha256={hashlib.file_digest(stream, 'sha256').hexdigest()}"
    with told(file.shown, "version"):
        info = file.system.info(file.address)
        known = next((name for name in _VERSIONS if info.get(name)), None)
        if known is not None:
            return f"size={info.get('size')} {known}={info[known]}"
        return f"sha256={_digest(file)}"


def _digest(file: SourceFile) -> str:
    digest, size = hashlib.sha256(), 0
    with file.open() as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            size += len(block)
            if size > MOST_HASHED_BYTES:
                raise DataError(
                    f"{file.shown}: its server tells neither ETag nor time, and it is longer than "
                    f"{mebibytes(MOST_HASHED_BYTES)}: a change could not be seen; download it and "
                    "name the file"
                )
    return digest.hexdigest()


def named(url: str) -> str:
    """How a URL is shown: user, password, query and fragment are the user's secrets."""
    first = url.split("::")[0]
    parts = urlsplit(first)
    if "@" not in parts.netloc and not first.startswith("http"):
        return first
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def secret_in(url: str) -> str | None:
    """What of a URL lets its holder in, by its name and never by its value; None: nothing."""
    for link in url.split("::"):
        parts = urlsplit(link)
        if "@" in parts.netloc:
            return "a user or password"
        for pair in re.split("[&;]", f"{parts.query}&{parts.fragment}"):
            name = unquote(pair.partition("=")[0])
            if "=" in pair and _lets_in(re.sub(r"[^a-z0-9]", "", name.lower())):
                return name[:40]
    return None


def _lets_in(name: str) -> bool:
    return name in _CREDENTIALS or (
        name.startswith(_CREDENTIAL_STARTS) or name.endswith(_CREDENTIAL_ENDS)
    )


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
