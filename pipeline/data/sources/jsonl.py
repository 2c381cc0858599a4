"""JSON rows: one a line, parsed in the worker; every way in which a row can be wrong is told."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.data.rows import Placed, Refused, Row, RowProblem
from pipeline.data.sources.chunks import BLOCK_BYTES, LONGEST_BYTES, RowList, excerpt
from pipeline.data.sources.lines import line_blocks
from pipeline.data.sources.opening import text_blocks
from pipeline.data.sources.source_file import SourceFile

# Fixed, and far below the parser's own limit, which depends on how deep the caller stands.
DEEPEST = 100
_KINDS = {
    list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false",
    type(None): "null",
}  # fmt: skip
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class LineBlock:
    """Lines of a JSON-lines file, not yet parsed.

    Attributes:
        name: the file, as places show it.
        first: the number of the first line.
        data: the lines.
    """

    name: str
    first: int
    data: bytes

    def rows(self) -> Iterator[Placed | Refused]:
        """A row for each line that is not blank."""
        for number, line in enumerate(self.data.split(b"\n"), self.first):
            if line and not line.isspace():
                yield json_row(line, f"{self.name}:{number}")


def jsonl_chunks(
    file: SourceFile, place: str, size: int = BLOCK_BYTES, longest: int = LONGEST_BYTES
) -> Iterator[LineBlock | RowList]:
    """A JSON-lines file in blocks of about ``size`` bytes.

    Raises:
        DataError: the file cannot be read.
    """
    for block in line_blocks(text_blocks(file, place, size), file.shown, longest=longest):
        if isinstance(block, Refused):
            yield RowList((block,))
        elif not block.data.isspace():
            yield LineBlock(file.shown, block.first, block.data)


def json_row(raw: bytes, place: str) -> Placed | Refused:
    """One JSON object (RFC 8259) as a row.

    Refused: what is not UTF-8, not JSON (NaN and Infinity are not) or no object; a key that
    stands twice in an object, since one of its values would be lost; half of a surrogate pair,
    which UTF-8 cannot hold; numbers that Python cannot; nesting deeper than DEEPEST.
    """
    try:
        return Placed(place, _object(raw))
    except RowProblem as problem:
        return Refused(place, str(problem), excerpt(raw))


def _object(raw: bytes) -> Row:
    value = _value(raw)
    if not isinstance(value, dict):
        raise RowProblem(f"a row is a JSON object, and this is {_KINDS[type(value)]}")
    # Most rows have fewer brackets than that altogether.
    if raw.count(b"{") + raw.count(b"[") > DEEPEST and _deeper(value, DEEPEST):
        raise RowProblem(f"nested deeper than {DEEPEST} levels")
    if _HALF_PAIR.search(raw):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise RowProblem("half of a surrogate pair, which no UTF-8 text can hold") from None
    return value


def _value(raw: bytes) -> Any:
    try:
        return _DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RowProblem(f"not UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        raise RowProblem(f"not JSON ({error.msg}, character {error.pos + 1})") from None
    except RecursionError:
        raise RowProblem(f"nested deeper than {DEEPEST} levels") from None
    except ValueError:
        raise RowProblem("an integer with too many digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RowProblem(f"key {excerpt(twice)[:40]!r} stands twice in one object")
    return row


def _no_constant(name: str) -> Any:
    raise RowProblem(f"{name} is not JSON; write null")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise RowProblem(f"the number {digits[:20]} is too large")
    return number


def _deeper(value: Row, levels: int) -> bool:
    here: list[Any] = [value]
    for _ in range(levels):
        inner: list[Any] = []
        for each in here:
            members = each.values() if isinstance(each, dict) else each
            inner.extend(member for member in members if isinstance(member, dict | list))
        if not inner:
            return False
        here = inner
    return True


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
)
