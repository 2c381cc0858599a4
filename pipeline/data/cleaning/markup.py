"""HTML in texts that should hold none: references decoded, tags taken out.

Only what is certainly HTML goes: a tag has the name of an HTML element (WHATWG HTML, the index
of elements, with the obsolete ones of section 16.2) and attributes of HTML's syntax (13.1.2.3).
So ``a < b``, ``List<int>``, ``<a@b.c>``, ``<EMAIL_ADDRESS>`` and ``<think>`` stay. Code between
backticks is left alone. Pages as such are read by the document reader, not here.
"""

from __future__ import annotations

import html
import re
from html.entities import html5

from pipeline.data.cleaning.code_spans import CODE, outside_code

_REFERENCE = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# `&amp;amp;lt;`: all layers but the last at once, or each pass would take off only one.
_LAYERS = re.compile(r"&(?:amp;)+(?=(?:#\w{1,8}|[A-Za-z]\w{1,31});)")
# AG News wrote a blank for the ampersand: `Haiti #39;s`, ` quot;bridge quot;`. Only codes of
# punctuation and Latin-1, so that `bugs #12; #13;` stay.
_BROKEN = re.compile(
    r"(?:\A| )(?:(quot|amp|lt|gt|apos|nbsp)|#0{0,2}(3[4689]|6[02]|1[3-9]\d|2[0-4]\d|25[0-5]"
    r"|82[0-3]\d|8364|8482));"
)
_BLOCK_NAMES = (
    "address article aside blockquote body br center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form frameset h1 h2 h3 h4 h5 h6 head header hr html li main menu "
    "nav noframes noscript ol optgroup p pre section summary table tbody tfoot "
    "thead title tr ul"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_CELLS = frozenset({"td", "th", "option"})
_INLINE_NAMES = (
    "a abbr acronym applet area audio b base basefont bdi bdo big blink button canvas caption "
    "cite code col colgroup data datalist del dfn em embed font frame i iframe img input ins kbd "
    "label legend link map mark marquee meta meter nobr object output param picture progress q "
    "rp rt ruby s samp script select slot small source span strike strong style sub sup svg "
    "template textarea time tt u var video wbr"
)
_INLINE = frozenset(_INLINE_NAMES.split())
_NAMES = _BLOCKS | _CELLS | _INLINE
# They need no end tag, so that one standing alone still is a tag.
_ALONE_NAMES = "br hr img wbr input p li td th tr dd dt option"
_ALONE = frozenset(_ALONE_NAMES.split())
_BARE = (
    "allowfullscreen async autofocus autoplay checked compact controls default defer disabled "
    "download hidden ismap itemscope loop multiple muted nohref noresize noshade novalidate nowrap "
    "open playsinline readonly required reversed selected"
)
# An attribute without a value must be one of HTML's: `if a <b and c> d` is no tag.
_ATTRIBUTE = (
    r"""[\s\\]+(?:[A-Za-z_:@][\w:.@-]*\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'=<>`]+)|(?:"""
    + "|".join(_BARE.split())
    + r")(?=[\s/>]))"
)
_TOKEN = re.compile(
    rf"(?P<code>{CODE})|(?P<comment><!--)|(?P<doctype><!doctype\b[^<>]*>)"
    rf"|<(?P<end>/?)(?P<name>[A-Za-z][A-Za-z0-9]*+)(?P<attributes>(?>{_ATTRIBUTE})*+)\s*/?>",
    re.DOTALL | re.IGNORECASE,
)
_SILENT = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style")}


def without_markup(text: str) -> str:
    """The text with references decoded and tags taken out, one layer of each.

    Scripts, styles and comments go with what they hold. A block's tag leaves a line break where
    text stands on both sides of it, a cell's a blank.
    """
    if ";" in text:
        text = outside_code(text, _decoded)
    return _Page(text).read() if "<" in text else text


def _decoded(text: str) -> str:
    text = _BROKEN.sub(_broken, text)
    return _REFERENCE.sub(_character, _LAYERS.sub("&", text)) if "&" in text else text


def _character(match: re.Match[str]) -> str:
    # html.unescape also reads `&copy` in `?a=1&copy=2`: only whole names are given to it.
    known = match[1].startswith("#") or f"{match[1]};" in html5
    return html.unescape(match[0]) if known else match[0]


def _broken(match: re.Match[str]) -> str:
    return html.unescape(f"&{match[1]};" if match[1] else f"&#{match[2]};")


class _Page:
    """One reading of a text from left to right, in time linear in its length."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._out: list[str] = []
        self._gap = ""  # what a tag asks for between the texts beside it
        self._last_end: dict[str, int] = {}
        self._unclosed: set[str] = set()

    def read(self) -> str:
        """What is left of the text."""
        text, done, position = self._text, 0, 0
        while match := _TOKEN.search(text, position):
            position = self._after(match)
            if position == match.start():  # no markup after all
                position = match.end()
                continue
            self._write(text[done : match.start()])
            name = (match["name"] or "").lower()
            if name in _BLOCKS:
                self._gap = "\n"
            elif name in _CELLS:
                self._gap = self._gap or " "
            done = position
        self._write(text[done:])
        return "".join(self._out)

    def _after(self, match: re.Match[str]) -> int:
        """Where to go on behind markup; the match's own start where it is none."""
        if match["code"]:
            return match.start()
        if match["comment"]:
            return self._close("<!--", re.compile("-->"), match) or match.start()
        if match["doctype"]:
            return match.end()
        name = match["name"].lower()
        if name not in _NAMES or (not match["end"] and self._is_code(match, name)):
            return match.start()
        if name in _SILENT and not match["end"] and not match[0].endswith("/>"):
            return self._close(name, _SILENT[name], match) or match.end()
        return match.end()

    def _close(self, name: str, pattern: re.Pattern[str], match: re.Match[str]) -> int | None:
        if name in self._unclosed:
            return None
        found = pattern.search(self._text, match.end())
        if found is None:
            # Never looked for again, or a text of openings alone would take quadratic time.
            self._unclosed.add(name)
            return None
        return found.end()

    def _is_code(self, match: re.Match[str], name: str) -> bool:
        """``List<Object>``: at a word, without attributes, never closed."""
        before = self._text[match.start() - 1 : match.start()]
        if match["attributes"] or name in _ALONE or not (before.isalnum() or before == "_"):
            return False
        if name not in self._last_end:
            ends = re.finditer(rf"</{name}\s*>", self._text, re.IGNORECASE)
            self._last_end[name] = max((end.start() for end in ends), default=-1)
        return self._last_end[name] < match.end()

    def _write(self, piece: str) -> None:
        if not piece:
            return
        if self._gap and self._out and not self._out[-1][-1].isspace() and not piece[0].isspace():
            self._out.append(self._gap)
        elif self._gap == "\n" and self._out and not _breaks(self._out[-1], piece):
            self._out.append("\n")
        self._gap = ""
        self._out.append(piece)


def _breaks(before: str, after: str) -> bool:
    trail = before[len(before.rstrip()) :] + after[: len(after) - len(after.lstrip())]
    return "\n" in trail
