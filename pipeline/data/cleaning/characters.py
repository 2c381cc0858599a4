"""Steps that look at single characters: Unicode form, invisible characters, damage, blanks."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from pipeline.data.cleaning.code_spans import CODE

Form = Literal["NFC", "NFKC"]

_LINE_END = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
_CARRIAGE = re.compile("\r\n?|\x85")
# C0 and C1 (ISO 6429) but for tab and line feed; then format characters (general category Cf)
# that are invisible: soft hyphen, zero widths, bidirectional controls (which can hide text:
# CVE-2021-42574), invisible operators, interlinear annotation, language tags.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0001\U000e0020-\U000e007f]"
)
_ZWSP, _ZWNJ, _ZWJ = "\u200b", "\u200c", "\u200d"
_TAGS = range(0xE0020, 0xE0080)
_BLACK_FLAG = "\U0001f3f4"
# Scripts whose letters join, so that a ZWNJ between them changes what is read (RFC 5892,
# appendix A.1): Arabic, Syriac, N'Ko, Mongolian, and Arabic's supplements.
_JOINING = re.compile("[\u0600-\u07ff\u0860-\u08ff\u1800-\u18af\ufb50-\ufdff\ufe70-\ufefc]")
# Thai, Lao, Myanmar, Khmer write no blanks: there ZWSP is the word boundary.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\uaa60-\uaa7f]")
_VIRAMA = 9
_DAMAGED = re.compile("[\ufffd\ud800-\udfff]")
_STRANGE_BLANK = re.compile(r"[^\S\n ]")
# What is in order is not matched: a single blank or tab, a single line feed without blanks.
_BLANKS = re.compile(
    CODE + r"|(?P<breaks>(?:[^\S\n]+\n|\n[^\S\n]*\n)(?:[^\S\n]*\n)*)"
    r"|(?P<blanks>[^\S\n]{2,}|[^\S\n \t])",
    re.DOTALL,
)


def composed(text: str, form: Form) -> str:
    """The text in a Unicode normalisation form (Unicode Standard Annex 15)."""
    return text if text.isascii() else unicodedata.normalize(form, text)


def without_controls(text: str) -> str:
    """Without control and invisible format characters; line ends become line feeds.

    ZWNJ and ZWJ stay where a script or an emoji needs them (RFC 5892, appendix A.1 and A.2;
    Unicode Technical Standard 51, section 2.3), ZWSP in scripts without blanks, and tag
    characters in flags.
    """
    # False for line breaks too, but true for most short texts, and fast.
    if text.isprintable():
        return text
    text = _CARRIAGE.sub("\n", text)
    if not _INVISIBLE.search(text):
        return text
    return _INVISIBLE.sub(lambda match: match[0] if _needed(match) else "", text)


def _needed(match: re.Match[str]) -> bool:
    character, text = match[0], match.string
    before = text[max(0, match.start() - 1) : match.start()]
    after = text[match.end() : match.end() + 1]
    if character == _ZWSP:
        return bool(_UNSPACED.match(before) and _UNSPACED.match(after))
    if character == _ZWNJ:
        joins = bool(_JOINING.match(before) and _JOINING.match(after))
        return joins or _after_virama(before)
    if character == _ZWJ:
        return _after_virama(before) or (_pictograph(before) and _pictograph(after))
    if ord(character) in _TAGS:
        return before == _BLACK_FLAG or (before != "" and ord(before) in _TAGS)
    return False


def _after_virama(before: str) -> bool:
    return before != "" and unicodedata.combining(before) == _VIRAMA


def _pictograph(character: str) -> bool:
    # Variation selector 16 and skin tones stand between an emoji and its joiner.
    return character != "" and (
        character == "\ufe0f" or unicodedata.category(character) in {"So", "Sk"}
    )


def damage(text: str) -> int:
    """How many characters stand for lost bytes: U+FFFD, and halves of surrogate pairs."""
    return 0 if text.isascii() else len(_DAMAGED.findall(text))


def without_damage(text: str) -> str:
    """The text with the characters that ``damage`` counts taken out."""
    return _DAMAGED.sub("", text) if damage(text) else text


def tidy(text: str) -> str:
    """Runs of blanks within a line to one, at most one empty line, nothing at the ends.

    A line's indentation (blanks and tabs) stays: lists nest by it, and code without a fence is
    lost without it. A single tab stays (tables). Fenced code stays as it is, line ends apart.
    """
    text = text.strip()
    # The fast way: most texts show none of what the pattern below looks for.
    if not ("  " in text or " \n" in text or "\n\n\n" in text) and (
        text.isprintable() or not _STRANGE_BLANK.search(text)
    ):
        return text
    return _BLANKS.sub(_blanks, _LINE_END.sub("\n", text)).strip()


def _blanks(match: re.Match[str]) -> str:
    run = match[0]
    if match["breaks"]:
        return "\n" if run.count("\n") == 1 else "\n\n"
    if match["blanks"]:
        if match.start() == 0 or match.string[match.start() - 1] == "\n":
            return "".join(character for character in run if character in " \t")
        return " "
    return run
