"""Bytes of a file, decompressed, in blocks of one size whatever it is compressed with."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pipeline.core.errors import DataError
from pipeline.data.sources.chunks import BLOCK_BYTES, BrokenOff
from pipeline.data.sources.remote import told
from pipeline.data.sources.source_file import SourceFile

_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_SIGNATURES = {
    b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst",
}  # fmt: skip
# One small input can make much output: this bounds what a few bytes of Zstandard become.
_ZSTD_INPUT_BYTES = 4096


def blocks(file: SourceFile, place: str, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The file's bytes, decompressed, in blocks of ``size`` (the last may be shorter).

    Raises:
        BrokenOff: compressed data that is cut off or damaged; what stands before has been given.
        DataError: the file cannot be opened or read.
    """
    with opened(file, place) as raw:
        read = _reader(raw, file.compression)
        held = bytearray()
        reason = None
        while True:
            try:
                piece = read(size - len(held))
            except Exception as error:
                reason = _damage(error)
                if file.compression is None or reason is None:
                    raise
                break
            if not piece:
                break
            held += piece
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
        if held:
            yield bytes(held)
        # An empty file is no damaged one, and some of the libraries take it so.
        if reason is not None and raw.tell():
            raise BrokenOff(reason)


def text_blocks(file: SourceFile, place: str, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Blocks of a text file, its UTF-8 byte order mark taken off.

    Raises:
        BrokenOff: see ``blocks``.
        DataError: the file cannot be read, or it is not UTF-8 by its first bytes.
    """
    found = blocks(file, place, size)
    first = next(found, b"")
    problem = not_text(first)
    if problem is not None:
        raise DataError(f"{place}: {file.shown}: {problem}")
    first = first.removeprefix(_BOM)
    if first:
        yield first
    yield from found


def not_text(data: bytes) -> str | None:
    """Why these first bytes are no UTF-8 text, with the remedy; None where they may be."""
    if data.startswith(_UTF_16):
        return "UTF-16 or UTF-32 by its first bytes; save it as UTF-8"
    for signature, suffix in _SIGNATURES.items():
        if data.startswith(signature):
            return f"compressed by its first bytes; end its name in {suffix}"
    return None


@contextmanager
def opened(file: SourceFile, place: str) -> Iterator[BinaryIO]:
    """The file, open; whatever goes wrong with it meanwhile is told in one line.

    Raises:
        DataError: the file cannot be opened or read.
    """
    if file.remote:
        with told(file.shown, place), file.open() as raw:
            yield raw
        return
    try:
        with file.open() as raw:
            yield raw
    except OSError as error:
        reason = error.strerror or _line(str(error)) or type(error).__name__
        raise DataError(f"{place}: {file.shown}: {reason}; check the path") from None


def _line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:200] if lines else ""


def _reader(raw: BinaryIO, compression: str | None) -> Callable[[int], bytes]:
    """What reads at most about so many bytes; ``read1`` gives all that stands before a break."""
    if compression == ".gz":
        return gzip.GzipFile(fileobj=raw).read1
    if compression == ".bz2":
        return bz2.BZ2File(raw).read1
    if compression == ".xz":
        return lzma.LZMAFile(raw).read1
    if compression == ".zst":
        return _Zstandard(raw).read1
    return raw.read


def _damage(error: Exception) -> str | None:
    """Why compressed data cannot be read on; None where the data is not to blame."""
    import zstandard

    if isinstance(error, EOFError):
        return "the compressed data ends too early"
    # gzip and bz2 raise an OSError without a number for damaged data.
    damaged = (zlib.error, lzma.LZMAError, zstandard.ZstdError)
    if isinstance(error, damaged) or (isinstance(error, OSError) and error.errno is None):
        return f"the compressed data is damaged ({_line(str(error))})"
    return None


class _Zstandard:
    """Frame after frame. The library's own stream reader takes a cut frame for a whole one."""

    def __init__(self, raw: BinaryIO) -> None:
        import zstandard

        self._raw = raw
        self._frames = zstandard.ZstdDecompressor()
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._rest = b""

    def read1(self, _size: int) -> bytes:
        while True:
            data = self._rest or self._raw.read(_ZSTD_INPUT_BYTES)
            self._rest = b""
            if not data:
                if self._frame is not None:
                    raise EOFError
                return b""
            if self._frame is None:
                self._frame = self._frames.decompressobj()
            frame = self._frame
            found = frame.decompress(data)
            if frame.eof:
                self._rest, self._frame = frame.unused_data, None
            if found:
                return found
