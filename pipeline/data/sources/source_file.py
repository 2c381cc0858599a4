"""One file of a source: its name tells what it is, and it knows how it is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
LINE_KINDS = (".jsonl", ".ndjson")
TABLE_KINDS = (".csv", ".tsv")
DOCUMENT_KINDS = (".txt", ".md", ".markdown", ".html", ".htm", ".xhtml", ".pdf")
KINDS = (*LINE_KINDS, ".json", *TABLE_KINDS, ".parquet", *DOCUMENT_KINDS)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that is to be read.

    Attributes:
        shown: its name in places and errors: no password, no signature of a URL.
        path: its path or the path part of its URL; the suffix tells what it is.
        inside: its path within the folder that the source names; None where it is the source.
        system: fsspec's file system; None for the local one.
        address: what ``system`` opens.
    """

    shown: str
    path: str
    inside: str | None = None
    system: Any = field(default=None, repr=False)
    address: str = field(default="", repr=False)

    @property
    def remote(self) -> bool:
        """Whether fsspec reads it."""
        return self.system is not None

    @property
    def kind(self) -> str:
        """Its suffix under the compression's, in lower case, e.g. ``.jsonl``."""
        return _suffixes(self.path)[0]

    @property
    def compression(self) -> str | None:
        """``.gz`` and the like, or None."""
        return _suffixes(self.path)[1]

    @property
    def name(self) -> str:
        """What a row says of the document it comes from."""
        return self.inside or PurePosixPath(self.path).name

    @property
    def problem(self) -> str | None:
        """Why nobody reads a file of this name; None where somebody does."""
        if self.kind == ".parquet" and self.compression:
            return "Parquet is compressed inside; decompress the file"
        if self.kind in KINDS:
            return None
        known = ", ".join(sorted(KINDS))
        after = ", ".join(COMPRESSIONS)
        return f"{self.kind or 'no suffix'} is not read; use one of {known} (and {after} after it)"

    def open(self) -> BinaryIO:
        """The file, open for reading; errors are those of its file system."""
        if self.system is not None:
            return cast(BinaryIO, self.system.open(self.address, "rb"))
        return Path(self.path).open("rb")


def _suffixes(path: str) -> tuple[str, str | None]:
    name = PurePosixPath(path.lower())
    if name.suffix in COMPRESSIONS:
        return PurePosixPath(name.stem).suffix, name.suffix
    return name.suffix, None
