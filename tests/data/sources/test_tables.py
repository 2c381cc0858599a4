"""CSV, TSV and Parquet: bad records alone, embedded line breaks, damaged files."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data.rows import Placed
from pipeline.data.sources.csv_table import csv_chunks
from pipeline.data.sources.source_file import SourceFile
from tests.data.sources.reader import placed, read, refused, rows_of

# What csv.writer writes, csv.reader reads back; NUL apart, which we refuse.
CELLS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@given(table=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), tabs=st.booleans())
def test_what_csv_writes_we_read(folder: Path, table: list[tuple[str, str]], tabs: bool) -> None:
    file = folder / ("x.tsv" if tabs else "x.csv")
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *table])
    file.write_bytes(sink.getvalue().encode())
    assert placed(read(file)) == [{"text": a, "label": b} for a, b in table]


def test_a_row_stands_at_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(
        b'\xef\xbb\xbftext,label\r\n"two\r\nlines",a\r\n\r\nplain,b\r\n"q ""q"", q",c'
    )
    found = read(tmp_path / "x.csv")
    assert [each.place.rpartition(":")[2] for each in found] == ["2", "5", "6"]
    assert placed(found) == [
        {"text": "two\r\nlines", "label": "a"},
        {"text": "plain", "label": "b"},
        {"text": 'q "q", q', "label": "c"},
    ]


def test_a_bad_record_is_refused_alone(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(
        b'text,label\nfine,a\none\nx,y,z\ncaf\xe9,b\nnul\x00,c\n"broken"x,d\nlast,e\n'
    )
    found = read(tmp_path / "x.csv")
    assert placed(found) == [{"text": "fine", "label": "a"}, {"text": "last", "label": "e"}]
    reasons = refused(found)
    assert reasons["3"].startswith("2 columns in the header, 1 here")
    assert reasons["4"].startswith("2 columns in the header, 3 here")
    assert reasons["5"].startswith("not UTF-8")
    assert reasons["6"] == "holds a NUL byte"
    assert "expected after" in reasons["7"]


def test_an_open_quote_makes_no_rows_and_loses_none(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('text,label\nfine,a\n"open,b\nc,d\ne,f\n')
    found = read(tmp_path / "x.csv")
    assert placed(found) == [{"text": "fine", "label": "a"}]
    assert list(refused(found)) == ["3", "4", "5"]
    assert "in a record from line 3 on" in refused(found)["5"]


def test_a_record_has_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('text,label\n"' + "swallowed,line\n" * 10 + "\nafter,b\n" + "x" * 300 + ",c\n")
    found = rows_of(csv_chunks(SourceFile("x.csv", str(path)), "p", longest=100))
    assert placed(found)[-1] == {"text": "after", "label": "b"}
    assert "an open quote?" in refused(found)["2"]
    assert "longer than 100 bytes" in refused(found)["14"]
    # Blank lines apart, each line stands somewhere.
    assert {each.place for each in found} == {f"x.csv:{n}" for n in [*range(2, 12), 13, 14]}


def test_old_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"text,label\ra,b\rc,d\r")
    assert placed(read(tmp_path / "x.csv")) == [
        {"text": "a", "label": "b"}, {"text": "c", "label": "d"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"text,label,text\na,b,c\n", "column 'text' stands twice"),
        (b'"text,label\na,b\n', "the header cannot be read"),
        (b"caf\xe9,label\na,b\n", "the header not UTF-8"),
        (b"\xff\xfet\0e\0x\0t\0", "UTF-16"),
        (b"\x1f\x8b\x08rest", "end its name in .gz"),
        (b"text,label\n", "holds no rows"),
        (b"", "holds no rows"),
    ],
)
def test_a_table_without_a_header_or_rows_stops_the_run(
    tmp_path: Path, data: bytes, message: str
) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(DataError, match=r"^data\.train: ") as caught:
        read(tmp_path / "x.csv")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


ROWS: list[dict[str, Any]] = [
    {"text": f"row {n}", "n": n, "messages": [{"role": "user", "content": "é" * (n % 5)}]}
    for n in range(2500)
]


def test_parquet_reads_as_arrow_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=700)
    found = read(path)
    assert placed(found) == pq.read_table(path).to_pylist() == ROWS
    assert found[2499].place == f"{path}: row 2500"


def test_a_value_that_python_cannot_hold_is_refused_alone(tmp_path: Path) -> None:
    texts = pa.array([b"fine", b"caf\xe9", b"last"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet")
    assert placed(found) == [{"text": "fine"}, {"text": "last"}]
    assert refused(found)["row 2"].startswith("a value that cannot be read")


@pytest.mark.parametrize("damage", ["footer", "cut", "page", "words", "empty", "twice", "rows"])
def test_a_damaged_parquet_file_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.parquet"
    table = pa.Table.from_pylist(ROWS)
    if damage == "twice":
        table = pa.Table.from_arrays([table["n"], table["n"]], ["n", "n"])
    if damage == "rows":
        table = table.slice(0, 0)
    pq.write_table(table, path, write_page_checksum=True, compression="none")
    data = bytearray(path.read_bytes())
    if damage == "footer":
        data[-40:-10] = b"\xff" * 30
    elif damage == "page":
        data[2000:2100] = b"\xff" * 100
    elif damage == "cut":
        data = data[: len(data) // 2]
    elif damage in ("words", "empty"):
        data = bytearray(b"no table" if damage == "words" else b"")
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"data.train: {path}: ")
    assert "\n" not in str(caught.value)


def test_a_row_keeps_its_number_after_a_refusal(tmp_path: Path) -> None:
    texts = pa.array([b"\xe9", b"b"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet")[1] == Placed(f"{tmp_path}/x.parquet: row 2", {"text": "b"})
