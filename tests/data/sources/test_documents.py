"""Text out of documents: HTML without its menus, PDF pages in order, and what has no text."""

from __future__ import annotations

import gzip
import io
import logging
from pathlib import Path

import pypdf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data.rows import Placed, Refused
from pipeline.data.sources import peek
from tests.data.sources.reader import placed, read, refused

PARAGRAPH = "The granary of the old harbour was built from the stones of the fallen lighthouse. "
PAGE = f"""<!DOCTYPE html><html><head><title>T</title><style>p {{}}</style></head><body>
<nav><ul><li><a href="/a">Menu entry</a></li><li><a href="/b">Another entry</a></li></ul></nav>
<article><h1>Harbour &amp; light</h1><p>{PARAGRAPH * 3}</p><p>It is café time.</p></article>
<script>var hidden = "code";</script><footer>Imprint</footer></body></html>"""


def _pdf(pages: list[str]) -> bytes:
    """A PDF by hand (ISO 32000-1, 7.5): one text line a page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, text in enumerate(pages):
        content = f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET" if text else ""
        objects += [
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * n} 0 R >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        ]
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    return (
        data
        + (
            f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n"
            f"<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF\n"
        ).encode()
    )


def _locked(password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(_pdf(["secret page"])))
    writer.encrypt(password, algorithm="RC4-128")
    sink = io.BytesIO()
    writer.write(sink)
    return sink.getvalue()


def _one(path: Path, data: bytes) -> Placed | Refused:
    path.write_bytes(data)
    (found,) = read(path)
    return found


def test_plain_text_is_cut_at_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(
        "\ufeffone\r\nstill one\r\n \t\u3000\r\n\r\n\r\n  two\n\nthree".encode()
    )
    found = read(tmp_path / "x.txt")
    assert [each.place for each in found] == [f"{tmp_path}/x.txt: row {n}" for n in (1, 2, 3)]
    assert placed(found) == [{"text": "one\nstill one"}, {"text": "two"}, {"text": "three"}]


def test_a_document_that_is_no_utf_8_is_refused_whole(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"fine\n\nfirst line\ncaf\xe9\n\nnul\0\n\nlast")
    found = read(tmp_path / "x.txt")
    assert placed(found) == [{"text": "fine"}, {"text": "last"}]
    assert refused(found)["row 2"].startswith("not UTF-8")
    assert refused(found)["row 3"] == "holds a NUL byte"


def test_a_document_with_a_line_of_20_mb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"before\n" + b"x" * (20 << 20) + b"\nafter\n\nlast")
    found = read(tmp_path / "x.txt")
    assert placed(found) == [{"text": "after"}, {"text": "last"}]
    assert "before a line that cannot be read" in refused(found)["row 1"]
    assert refused(found)["2"] == "the line is longer than 16 MiB"
    (tmp_path / "y.txt").write_bytes((b"x" * (1 << 20) + b"\n") * 20 + b"\nlast")
    found = read(tmp_path / "y.txt")
    assert placed(found) == [{"text": "last"}]
    assert "longer than 16 MiB" in refused(found)["row 1"]
    found = read(tmp_path, "y.txt")
    assert "longer than 16 MiB" in refused(found)["row 1"]


def test_a_page_gives_its_main_text(tmp_path: Path) -> None:
    for name in ("x.html", "x.htm", "x.html.gz"):
        data = PAGE.encode()
        found = _one(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data)
        assert isinstance(found, Placed)
        assert "Harbour & light" in found.row["text"]
        assert "café time" in found.row["text"]
        assert PARAGRAPH.strip() in found.row["text"]
        assert "Menu entry" not in found.row["text"]
        assert "hidden" not in found.row["text"]
        assert found.row["source_file"] == name


def test_xhtml_with_a_declaration_is_read(tmp_path: Path) -> None:
    page = '<?xml version="1.0" encoding="UTF-8"?>\n' + PAGE.replace(
        "<html>", '<html xmlns="http://www.w3.org/1999/xhtml">'
    )
    found = _one(tmp_path / "x.xhtml", page.encode())
    assert isinstance(found, Placed)
    assert "café time" in found.row["text"]


def test_a_short_page_gives_all_its_text(tmp_path: Path) -> None:
    found = _one(tmp_path / "x.html", b"<html><body><div>Just a word</div></body></html>")
    assert isinstance(found, Placed)
    assert found.row["text"] == "Just a word"


def test_a_page_is_read_in_the_encoding_that_it_names(tmp_path: Path) -> None:
    named = PAGE.replace("<title>", '<meta charset="iso-8859-1"><title>').encode("latin-1")
    found = _one(tmp_path / "x.html", named)
    assert isinstance(found, Placed)
    assert "café time" in found.row["text"]
    bad = _one(tmp_path / "y.html", PAGE.encode("latin-1"))
    assert isinstance(bad, Refused)
    assert bad.reason.startswith("not utf-8 (byte ")
    odd = _one(tmp_path / "z.html", named.replace(b"iso-8859-1", b"x-nonesuch"))
    assert isinstance(odd, Refused)
    assert "an encoding nobody knows (x-nonesuch)" in odd.reason


def test_pages_of_a_pdf_stand_in_their_order(tmp_path: Path) -> None:
    found = _one(tmp_path / "x.pdf", _pdf(["First page", "", "Last page"]))
    row = {"text": "First page\n\nLast page", "source_file": "x.pdf"}
    assert found == Placed(f"{tmp_path}/x.pdf: row 1", row)


def test_a_pdf_that_anybody_may_open_is_read(tmp_path: Path) -> None:
    found = _one(tmp_path / "x.pdf", _locked(""))
    assert isinstance(found, Placed)
    assert found.row["text"] == "secret page"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("x.pdf", _pdf([""]), "no text in its pages: scanned?"),
        ("x.pdf", _locked("key"), "encrypted; take the password off"),
        ("x.pdf", b"no PDF at all", "a PDF that cannot be read"),
        ("x.pdf", _pdf(["page"])[:200], "a PDF that cannot be read"),
        ("x.html", b"<html><body></body></html>", "no text in it"),
        ("x.html", b"<html>\0</html>", "holds a NUL byte"),
        ("x.html", b"<div>" * 5000, "no text in it"),
        ("x.md", b" \n\n", "no text in it"),
        ("x.md", b"caf\xe9", "not utf-8 (byte 4); save it as UTF-8"),
        ("x.md", "text".encode("utf-16"), "UTF-16"),
        ("x.md", b"a\0b", "holds a NUL byte"),
        ("x.md.gz", gzip.compress(b"text" * 99)[:-12], "ends too early"),
    ],
)
def test_a_document_without_text_is_refused_with_its_reason(
    tmp_path: Path, name: str, data: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = _one(tmp_path / name, data)
    assert isinstance(found, Refused)
    assert reason in found.reason
    assert "\n" not in found.reason
    assert found.place == f"{tmp_path}/{name}: row 1"
    assert caplog.records == []
    assert logging.getLogger("pypdf").level == logging.NOTSET


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(at=st.integers(0, 700), byte=st.integers(0, 255), cut=st.integers(0, 900))
def test_no_damage_to_a_pdf_is_an_exception(tmp_path: Path, at: int, byte: int, cut: int) -> None:
    data = bytearray(_pdf(["First page", "Last page"]))
    data[at % len(data)] = byte
    assert isinstance(_one(tmp_path / "x.pdf", bytes(data[: max(1, cut)])), Placed | Refused)


@pytest.mark.parametrize("name", ["x.md", "x.txt", "x.html", "x.pdf"])
def test_an_empty_file_stops_the_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="holds no rows"):
        read(tmp_path / name)


def test_of_documents_a_few_are_peeked_at(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.html").write_text(PAGE)
    assert len(peek(str(tmp_path), place="p")) == 5
