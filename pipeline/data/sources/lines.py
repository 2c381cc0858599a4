"""Lines out of blocks of bytes: whole blocks of lines for speed, or line by line as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from pipeline.data.rows import EXCERPT, Refused
from pipeline.data.sources.chunks import (
    BROKEN_OFF,
    LONGEST_BYTES,
    BrokenOff,
    excerpt,
    mebibytes,
)


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines as they stand.

    Attributes:
        first: the number of the first, from 1.
        data: the lines; the file's last may have no line break.
    """

    first: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line with its line break; bytes that are not UTF-8 are lone surrogates in it."""

    number: int
    text: str


def line_blocks(
    blocks: Iterator[bytes], name: str, newline: bytes = b"\n", longest: int = LONGEST_BYTES
) -> Iterator[Lines | Refused]:
    """Blocks of whole lines; a line over ``longest`` bytes is Refused and never held whole.

    Args:
        blocks: the file; none may be longer than ``longest``.
        name: opens every place.
        newline: the byte that ends a line.
        longest: the most bytes of a line, its end apart.
    """
    number = 1
    rest = b""
    # The beginning of a line that is too long, while its end is looked for.
    cut: bytes | None = None
    while True:
        try:
            block = next(blocks, b"")
        except BrokenOff as error:
            reason = f"{BROKEN_OFF} after line {number - 1}: {error}; nothing after it is read"
            yield Refused(f"{name}:{number}", reason, excerpt(cut or rest))
            return
        if not block:
            break
        end = block.find(newline)
        if (cut is not None or len(rest) + max(end, 0) > longest) and end >= 0:
            yield _overlong(name, number, rest + block[:end] if cut is None else cut, longest)
            number, rest, cut = number + 1, b"", None
            block = block[end + 1 :]
        last = block.rfind(newline)
        if last >= 0:
            data = rest + block[: last + 1]
            yield Lines(number, data)
            number += data.count(newline)
            rest = block[last + 1 :]
        elif cut is None:
            rest += block
        if len(rest) > longest:
            cut, rest = rest[: EXCERPT * 4], b""
    if cut is not None:
        yield _overlong(name, number, cut, longest)
    elif rest:
        yield Lines(number, rest)


def _overlong(name: str, number: int, line: bytes, longest: int) -> Refused:
    return Refused(
        f"{name}:{number}", f"the line is longer than {mebibytes(longest)}", excerpt(line)
    )


def text_lines(
    blocks: Iterator[bytes], name: str, longest: int = LONGEST_BYTES
) -> Iterator[TextLine | Refused]:
    """Line by line as text; ``\\r`` alone ends a line where the first block has no ``\\n``."""
    try:
        first = next(blocks, b"")
    except BrokenOff as error:
        yield Refused(f"{name}:1", f"{BROKEN_OFF} after line 0: {error}", "")
        return
    newline = b"\r" if b"\r" in first and b"\n" not in first else b"\n"
    for block in line_blocks(chain([first], blocks), name, newline, longest):
        if isinstance(block, Refused):
            yield block
            continue
        lines = block.data.split(newline)
        last = lines.pop()
        for number, line in enumerate(lines, block.first):
            yield TextLine(number, (line + newline).decode("utf-8", errors="surrogateescape"))
        if last:
            text = last.decode("utf-8", errors="surrogateescape")
            yield TextLine(block.first + len(lines), text)


def text_problem(text: str) -> str | None:
    """Why a text of ``text_lines`` cannot be a row; None where it can."""
    if "\0" in text:
        return "holds a NUL byte"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "not UTF-8; save the file as UTF-8"
    return None
