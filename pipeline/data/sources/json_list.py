"""A JSON list larger than memory: cut into its items by bytes, which workers then parse.

ijson (3.6, yajl) was tried first: it makes ``?`` of half a surrogate pair and keeps one of two
equal keys, both in silence, and one bad row ends the file. To cut needs only strings and
brackets, so a row that is wrong inside is refused alone, by the same rules as a JSON line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.errors import DataError
from pipeline.data.rows import EXCERPT, Placed, Refused
from pipeline.data.sources.chunks import (
    BATCH_ROWS,
    BLOCK_BYTES,
    BROKEN_OFF,
    LONGEST_BYTES,
    BrokenOff,
    RowList,
    excerpt,
    mebibytes,
)
from pipeline.data.sources.jsonl import json_row
from pipeline.data.sources.opening import text_blocks
from pipeline.data.sources.source_file import SourceFile

_STRING = rb'"(?:[^"\\]++|\\.)*+"'


def _nested(levels: int) -> bytes:
    """What stands between two brackets, with at most so many levels of brackets in it."""
    inner = rb"|[{\[]" + _nested(levels - 1) + rb"[}\]]" if levels else b""
    return rb'(?:[^"{}\[\]]++|' + _STRING + inner + rb")*+"


_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+", re.DOTALL)
_TO_MARK = re.compile(rb'(?:[^",{}\[\]]++|' + _STRING + rb")*+", re.DOTALL)
# A whole item with what stands after it, for the common shapes: one match in place of many.
_ITEM = re.compile(rb"\s*+\{" + _nested(3) + rb"\}\s*+,", re.DOTALL)
_TO_QUOTE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_QUOTE, _BACKSLASH, _COMMA, _LIST = b'"\\,['
_OPEN, _CLOSE = b"{[", b"}]"


@dataclass(frozen=True, slots=True)
class JsonItems:
    """Items of a JSON list, not yet parsed.

    Attributes:
        name: the file, as places show it.
        first: the number of the first item, from 1.
        items: the text of each.
    """

    name: str
    first: int
    items: tuple[bytes, ...]

    def rows(self) -> Iterator[Placed | Refused]:
        """A row for each item."""
        for number, item in enumerate(self.items, self.first):
            yield json_row(item, f"{self.name}: row {number}")


def json_chunks(
    file: SourceFile, place: str, size: int = BLOCK_BYTES, longest: int = LONGEST_BYTES
) -> Iterator[JsonItems | RowList]:
    """A file that holds one list of objects.

    Raises:
        DataError: the file cannot be read, or holds something else than a list.
    """
    cutter = _Cutter(longest)
    held: list[bytes] = []
    held_bytes = 0
    first = 1
    for item in _items(text_blocks(file, place, size), cutter, f"{place}: {file.shown}"):
        whole = isinstance(item, bytes)
        if held and (not whole or len(held) >= BATCH_ROWS or held_bytes >= BLOCK_BYTES):
            yield JsonItems(file.shown, first, tuple(held))
            first += len(held)
            held, held_bytes = [], 0
        if isinstance(item, bytes):
            held.append(item)
            held_bytes += len(item)
        else:
            yield RowList((Refused(f"{file.shown}: row {first}", item.reason, item.excerpt),))
            first += 1
    if held:
        yield JsonItems(file.shown, first, tuple(held))


@dataclass(frozen=True, slots=True)
class _Bad:
    reason: str
    excerpt: str


def _items(blocks: Iterator[bytes], cutter: _Cutter, place: str) -> Iterator[bytes | _Bad]:
    reason = None
    try:
        for block in blocks:
            yield from cutter.feed(block, place)
            if cutter.after is not None:
                break
    except BrokenOff as error:
        reason = str(error)
    if cutter.after:
        reason = "something stands after the end of the list"
    elif reason is None and cutter.depth:
        reason = "the list is never closed"
    if reason is not None:
        told = f"{BROKEN_OFF} after row {cutter.count}: {reason}; nothing after it is read"
        yield _Bad(told, excerpt(cutter.after or cutter.beginning()))


class _Cutter:
    """Where each item of the list begins and ends, block after block.

    Attributes:
        depth: brackets that are open.
        count: items given.
        after: what stands after the list, once it is closed.
    """

    def __init__(self, longest: int) -> None:
        self.depth = 0
        self.count = 0
        self.after: bytes | None = None
        self._longest = longest
        self._parts: list[bytes] = []
        self._bytes = 0
        self._in_string = False
        self._escaped = False

    def beginning(self) -> bytes:
        """The beginning of the item that is not yet whole."""
        return b"".join(self._parts)[: EXCERPT * 4]

    def feed(self, block: bytes, place: str) -> Iterator[bytes | _Bad]:
        """The items that end in this block."""
        start = end = 0
        if self.depth == 0:
            start = end = _opening(block, place)
            self.depth = min(end, 1)
        while True:
            if self.depth == 1 and end == start and not self._parts and not self._in_string:
                for after in self._common(block, start):
                    yield block[start : after - 1].strip()
                    start = end = after
            mark = self._next_mark(block, end)
            if mark is None:
                break
            found, end = mark
            if found in _OPEN:
                self.depth += 1
            elif found in _CLOSE:
                self.depth -= 1
            ends = found == _COMMA or self.depth == 0
            if ends:
                item = self._whole(block[start : end - 1])
                # `[]` holds nothing; a comma before nothing does.
                if found == _COMMA or self.count or not _blank(item):
                    self.count += 1
                    yield item
                start = end
            if self.depth == 0:
                self.after = block[end:].strip()
                return
        self._keep(block[start:])

    def _common(self, block: bytes, at: int) -> Iterator[int]:
        """Where each item of a common shape ends, up to the first of another."""
        while (match := _ITEM.match(block, at)) is not None:
            if match.end() - at > self._longest:
                return
            at = match.end()
            self.count += 1
            yield at

    def _next_mark(self, block: bytes, at: int) -> tuple[int, int] | None:
        """The next bracket, or comma between items, and where it ends."""
        if self._escaped and at < len(block):
            self._escaped = False
            at += 1
        while at < len(block):
            if self._in_string:
                at = _end(_TO_QUOTE, block, at)
                if at < len(block):
                    # A backslash stops the search only as the block's last byte.
                    self._escaped = block[at] == _BACKSLASH
                    self._in_string = self._escaped
                    at += 1
                continue
            at = _end(_TO_MARK if self.depth == 1 else _TO_BRACKET, block, at)
            if at < len(block):
                found = block[at]
                at += 1
                if found != _QUOTE:
                    return found, at
                self._in_string = True
        return None

    def _keep(self, part: bytes) -> None:
        self._bytes += len(part)
        if self._bytes <= self._longest:
            self._parts.append(part)
        elif len(self._parts) != 1 or len(self._parts[0]) > EXCERPT * 4:
            self._parts = [b"".join([*self._parts, part])[: EXCERPT * 4]]

    def _whole(self, part: bytes) -> bytes | _Bad:
        self._keep(part)
        long = self._bytes > self._longest
        item = b"".join(self._parts)
        self._parts, self._bytes = [], 0
        if long:
            return _Bad(f"the row is longer than {mebibytes(self._longest)}", excerpt(item))
        return item.strip()


def _opening(block: bytes, place: str) -> int:
    """How far into the block the list begins; 0 where the block is blank."""
    if not block.strip():
        return 0
    begin = len(block) - len(block.lstrip())
    if block[begin] != _LIST:
        remedy = "take the list out of it, or end its name in .jsonl if each line is an object"
        kind = "an object" if block[begin : begin + 1] == b"{" else repr(excerpt(block)[:20])
        raise DataError(
            f"{place}: a list of objects is read, and this begins with {kind}; {remedy}"
        )
    return begin + 1


def _blank(item: bytes | _Bad) -> bool:
    return isinstance(item, bytes) and not item


def _end(pattern: re.Pattern[bytes], block: bytes, at: int) -> int:
    match = pattern.match(block, at)
    return match.end() if match is not None else at
