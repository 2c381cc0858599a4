"""JSON lines and JSON lists: every row is placed or refused, whatever the blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data.rows import Placed, Refused
from pipeline.data.sources import peek
from pipeline.data.sources.chunks import BROKEN_OFF
from pipeline.data.sources.json_list import json_chunks
from pipeline.data.sources.jsonl import json_row, jsonl_chunks
from pipeline.data.sources.lines import Lines, line_blocks
from pipeline.data.sources.source_file import SourceFile
from tests.data.sources.reader import read, rows_of

SHARED = Path(__file__).resolve().parents[4] / "shared/data"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
ROWS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), min_size=1, max_size=12)


def _file(path: Path, data: bytes) -> SourceFile:
    path.write_bytes(data)
    return SourceFile(path.name, str(path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json")


@given(rows=ROWS, size=st.integers(1, 64), ascii_only=st.booleans(), blank=st.booleans())
def test_json_lines_are_the_same_whatever_the_block(
    folder: Path, rows: list[Any], size: int, ascii_only: bool, blank: bool
) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    text = ("\n \n" if blank else "\r\n").join(lines)
    file = _file(folder / "x.jsonl", text.encode())
    found = rows_of(jsonl_chunks(file, "p", size))
    step = 2 if blank else 1
    assert found == [Placed(f"x.jsonl:{1 + step * n}", row) for n, row in enumerate(rows)]


@given(rows=ROWS, size=st.integers(1, 64), indent=st.sampled_from([None, 0, 3]), bom=st.booleans())
def test_a_json_list_is_the_same_whatever_the_block(
    folder: Path, rows: list[Any], size: int, indent: int | None, bom: bool
) -> None:
    text = json.dumps(rows, ensure_ascii=False, indent=indent)
    file = _file(folder / "x.json", text.encode("utf-8-sig" if bom and size > 2 else "utf-8"))
    found = rows_of(json_chunks(file, "p", size))
    assert found == [Placed(f"x.json: row {n}", row) for n, row in enumerate(rows, 1)]


@given(
    lines=st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=20),
    size=st.integers(1, 16),
)
def test_every_line_is_given_or_refused(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    blocks = (data[at : at + size] for at in range(0, len(data), size))
    numbers: list[int] = []
    kept: list[bytes] = []
    for found in line_blocks(blocks, "x", longest=16):
        if isinstance(found, Refused):
            numbers.append(int(found.place.partition(":")[2]))
            assert len(lines[numbers[-1] - 1]) > 16
        else:
            assert isinstance(found, Lines)
            whole = found.data.removesuffix(b"\n").split(b"\n")
            numbers += range(found.first, found.first + len(whole))
            kept += whole
    ended = lines[:-1] if lines and not lines[-1] else lines
    assert numbers == list(range(1, len(ended) + 1))
    assert kept == [line for line in ended if len(line) <= 16]


@given(junk=st.binary(max_size=60))
def test_no_bytes_are_an_exception(folder: Path, junk: bytes) -> None:
    for found in (json_row(junk, "p"),):
        try:
            oracle = json.loads(junk.decode())
        except ValueError:
            oracle = None
        if isinstance(found, Placed):
            assert found.row == oracle
    rows = rows_of(json_chunks(_file(folder / "y.json", b'[{"a":1},' + junk + b"]"), "p", 7))
    assert rows[0] == Placed("y.json: row 1", {"a": 1})
    assert len(rows) > 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": tru}', "not JSON"),
        (b'{"a": "caf\xe9"}', "not UTF-8 (byte 11)"),
        (b'{"a": "\x00"}', "not JSON"),
        (b"\x00\x00\x00", "not JSON"),
        (b'{"a": "\\ud83d"}', "half of a surrogate pair"),
        (b'{"\\udE00": 1}', "half of a surrogate pair"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands twice"),
        (b"[1, 2]", "this is a list"),
        (b"17", "this is a number"),
        (b'"text"', "this is a text"),
        (b"null", "this is null"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "nested deeper than 100"),
        (b"[" * 400_000, "nested deeper than 100"),
        (b'{"a": 1} {"a": 2}', "not JSON (Extra data"),
    ],
)
def test_a_bad_row_is_refused_alone(tmp_path: Path, line: bytes, reason: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"n": 1}\n' + line + b'\n{"n": 3}\n')
    first, bad, last = read(tmp_path / "x.jsonl")
    assert isinstance(bad, Refused)
    assert reason in bad.reason
    assert bad.place == f"{tmp_path}/x.jsonl:2"
    assert len(bad.excerpt) <= 200
    bad.excerpt.encode()
    assert [row.row for row in (first, last) if isinstance(row, Placed)] == [{"n": 1}, {"n": 3}]
    if not line.startswith(b"[["):
        (tmp_path / "x.json").write_bytes(b'[{"n": 1},\n' + line + b',\n{"n": 3}]\n')
        listed = read(tmp_path / "x.json")
        assert [isinstance(row, Placed) for row in listed] == [True, False, True]
        assert listed[1].place == f"{tmp_path}/x.json: row 2"


def test_what_only_looks_odd_is_kept(tmp_path: Path) -> None:
    row = {"a": "\U0001f600\u2028\x00\ufffd", "deep": [[[[]]]] * 60, "big": 10**40, "": None}
    (tmp_path / "x.jsonl").write_text("\ufeff" + json.dumps(row) + "\n")
    assert read(tmp_path / "x.jsonl") == [Placed(f"{tmp_path}/x.jsonl:1", row)]


def test_a_line_of_50_mb_is_refused_alone(tmp_path: Path) -> None:
    for name, begin, end in (("x.jsonl", b'{"n": 1}\n', b'\n{"n": 3}\n'),
                             ("x.json", b'[{"n": 1},', b',{"n": 3}]')):  # fmt: skip
        with (tmp_path / name).open("wb") as stream:
            stream.write(begin + b'{"text": "')
            for _ in range(50):
                stream.write(b"x" * (1 << 20))
            stream.write(b'"}' + end)
        first, bad, last = read(tmp_path / name)
        assert isinstance(bad, Refused)
        assert bad.reason.endswith("longer than 16 MiB")
        assert bad.excerpt.startswith('{"text": "xxx')
        assert len(bad.excerpt) == 200
        assert isinstance(first, Placed)
        assert isinstance(last, Placed)


@pytest.mark.parametrize(
    ("text", "rows", "reason"),
    [
        ('[{"a": 1}, {"a": 2', 1, "the list is never closed"),
        ('[{"a": 1}', 0, "the list is never closed"),
        ('[{"a": 1}]]', 1, "something stands after the end"),
        ('[{"a": 1}, {"a": 2}}, {"a": 3}]', 2, "something stands after the end"),
    ],
)
def test_a_broken_list_tells_that_its_rest_is_lost(
    tmp_path: Path, text: str, rows: int, reason: str
) -> None:
    (tmp_path / "x.json").write_text(text)
    found = read(tmp_path / "x.json")
    last = found[-1]
    assert isinstance(last, Refused)
    assert last.reason.startswith(f"{BROKEN_OFF} after row")
    assert reason in last.reason
    assert sum(isinstance(row, Placed) for row in found) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [{"a": 1}]}', "begins with an object; take the list out of it"),
        ('{"a": 1}\n{"a": 2}', "end its name in .jsonl"),
        ('"text"', "a list of objects is read"),
        ("[]", "holds no rows"),
        ("[ \n ]\n", "holds no rows"),
        ("", "holds no rows"),
        (" \n", "holds no rows"),
    ],
)
def test_a_file_without_a_list_of_rows_stops_the_run(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"^data\.train: ") as caught:
        read(tmp_path / "x.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_peek_reads_no_more_than_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n' * 5000)
    assert len(peek(str(tmp_path / "x.jsonl"), place="p", rows=200)) == 200
    assert len(peek(str(tmp_path / "x.jsonl"), place="p", rows=9000)) == 5000


@pytest.mark.parametrize("name", ["alpaca_gpt4_demo/zh.jsonl", "mt_bench/test.jsonl"])
def test_real_files_read_as_python_reads_them(name: str) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip("the shared data sets are not beside this checkout")
    oracle = [json.loads(line) for line in path.read_text().split("\n") if line.strip()]
    found = read(path)
    assert [row.row for row in found if isinstance(row, Placed)] == oracle
    assert len(found) == len(oracle)
