"""Documents: their text out of plain text, Markdown, HTML and PDF."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.core.errors import DataError
from pipeline.data.rows import Placed, Refused, RowProblem
from pipeline.data.sources.chunks import (
    LONGEST_BYTES,
    BrokenOff,
    RowList,
    excerpt,
    in_lists,
    mebibytes,
)
from pipeline.data.sources.lines import TextLine, text_lines, text_problem
from pipeline.data.sources.opening import blocks, not_text, text_blocks
from pipeline.data.sources.source_file import SourceFile

LONGEST_PDF_BYTES = 1 << 28
_CHARSET = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)|<\?xml[^>]{0,80}encoding=["']([\w.-]+)""",
    re.IGNORECASE,
)
_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


@dataclass(frozen=True, slots=True)
class Document:
    """One file of one document, not yet parsed: a worker does that.

    Attributes:
        shown: the file, as places show it.
        name: what the row calls it, in ``source_file``.
        kind: its suffix.
        data: its bytes.
    """

    shown: str
    name: str
    kind: str
    data: bytes

    def rows(self) -> Iterator[Placed | Refused]:
        """One row: ``text`` and ``source_file``."""
        place = f"{self.shown}: row 1"
        try:
            text = _TEXTS[self.kind](self.data)
            problem = text_problem(text)
            if problem is not None or not text.strip():
                raise RowProblem(problem or "no text in it")
        except RowProblem as error:
            shows = "" if self.kind == ".pdf" else excerpt(self.data)
            yield Refused(place, str(error), shows)
            return
        yield Placed(place, {"text": text, "source_file": self.name})


def document_chunks(file: SourceFile, place: str) -> Iterator[Document | RowList]:
    """One file that is one document. Within a folder, one that cannot be opened is refused.

    Raises:
        DataError: the only file of a source cannot be read.
    """
    longest = LONGEST_PDF_BYTES if file.kind == ".pdf" else LONGEST_BYTES
    data = bytearray()
    try:
        for block in blocks(file, place):
            data += block
            if len(data) > longest:
                raise RowProblem(f"the document is longer than {mebibytes(longest)}")
        # A part of a document would pass for the whole of it.
    except (BrokenOff, RowProblem) as error:
        yield RowList((Refused(f"{file.shown}: row 1", str(error), excerpt(bytes(data[:1000]))),))
        return
    except DataError as error:
        if file.inside is None:
            raise
        reason = str(error).removeprefix(f"{place}: {file.shown}: ")
        yield RowList((Refused(f"{file.shown}: row 1", reason, ""),))
        return
    if data or file.inside is not None:
        yield Document(file.shown, file.name, file.kind, bytes(data))


def paragraph_chunks(file: SourceFile, place: str) -> Iterator[RowList]:
    """A plain text file of many documents, with blank lines between them.

    Raises:
        DataError: the file cannot be read.
    """
    return in_lists(_paragraphs(text_lines(text_blocks(file, place), file.shown), file.shown))


def _paragraphs(
    lines: Iterator[TextLine | Refused], name: str, longest: int = LONGEST_BYTES
) -> Iterator[Placed | Refused]:
    number = 0
    held: list[str] = []
    characters = 0
    for line in lines:
        broken = isinstance(line, Refused)
        if isinstance(line, TextLine) and line.text.strip():
            characters += len(line.text)
            if characters <= longest:
                held.append(line.text)
            continue
        if held:
            number += 1
            # What a refused line has cut in two is no document.
            why = "stands before a line that cannot be read" if broken else None
            yield _paragraph(f"{name}: row {number}", held, characters > longest, why)
            held, characters = [], 0
        if isinstance(line, Refused):
            yield line
    if held:
        yield _paragraph(f"{name}: row {number + 1}", held, characters > longest, None)


def _paragraph(place: str, lines: list[str], long: bool, why: str | None) -> Placed | Refused:
    text = "".join(lines).replace("\r\n", "\n").replace("\r", "\n").strip()
    if long:
        why = f"the document is longer than {mebibytes(LONGEST_BYTES)}"
    problem = why or text_problem(text)
    if problem is not None:
        return Refused(place, problem, excerpt(text))
    return Placed(place, {"text": text})


def _plain(data: bytes) -> str:
    return _decoded(data, "utf-8").replace("\r\n", "\n").replace("\r", "\n").strip()


def _decoded(data: bytes, charset: str) -> str:
    problem = not_text(data)
    if problem is not None:
        raise RowProblem(problem)
    try:
        return data.decode("utf-8-sig" if charset == "utf-8" else charset)
    except UnicodeDecodeError as error:
        raise RowProblem(f"not {charset} (byte {error.start + 1}); save it as UTF-8") from None
    except LookupError:
        raise RowProblem(f"an encoding nobody knows ({charset[:20]}); save it as UTF-8") from None


def _html(data: bytes) -> str:
    """The main text of a page without its menus; all its text where none is found."""
    import trafilatura

    try:
        page = _decoded(data, "utf-8")
    except RowProblem:
        # A page may say what it is written in; nothing is guessed.
        found = _CHARSET.search(data[:4096])
        charset = (found[1] or found[2]).decode("ascii") if found else "utf-8"
        page = _decoded(data, charset.lower())
    if "\0" in page:
        raise RowProblem("holds a NUL byte")
    page = _XML_DECLARATION.sub("", page, count=1)
    with _silent("trafilatura"):
        try:
            text = trafilatura.extract(page, favor_recall=True, include_comments=False)
            return text or trafilatura.html2txt(page) or ""
        except Exception as error:
            raise RowProblem(f"not HTML that can be read ({type(error).__name__})") from None


def _pdf(data: bytes) -> str:
    """The text of its pages in their order, an empty line between them."""
    import pypdf

    with _silent("pypdf"):
        try:
            reader = pypdf.PdfReader(io.BytesIO(data))
            # Many are encrypted with an empty password: anybody may read those.
            if reader.is_encrypted and not reader.decrypt(""):
                raise RowProblem("encrypted; take the password off")
            pages = [page.extract_text() for page in reader.pages]
        except RowProblem:
            raise
        except Exception as error:
            # Damaged files make the library raise whatever they make its parser meet.
            lines = str(error).strip().splitlines() or [""]
            reason = f"{type(error).__name__}: {lines[0][:120]}"
            raise RowProblem(f"a PDF that cannot be read ({reason})") from None
    # Fonts without a table of characters yield halves of pairs: no text that anybody can hold.
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    if not text:
        raise RowProblem("no text in its pages: scanned? recognise its text first")
    return text.replace("\0", "")


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """What the library would print of each damaged file is told by the refusal."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


_TEXTS: Mapping[str, Callable[[bytes], str]] = {
    ".txt": _plain, ".md": _plain, ".markdown": _plain,
    ".html": _html, ".htm": _html, ".xhtml": _html, ".pdf": _pdf,
}  # fmt: skip
