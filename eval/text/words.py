"""What counts as one word of a text in any script, and which texts are Chinese."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Scripts without blanks between words: each of their characters is a word by itself.
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_KANA = "\u3040-\u30ff"
_UNSPACED = f"{_HAN}{_KANA}\u0e00-\u0e7f"
_LETTERS = rf"(?:(?![{_UNSPACED}_])\w)"
_WORD = re.compile(rf"[{_UNSPACED}]|{_LETTERS}+(?:['’.,-]{_LETTERS}+)*|[^\w\s]|_")
_MOST_KANA = 0.1


def words(text: str, *, marks: bool = True) -> list[str]:
    """Words of a text, case and width folded; Han, kana and Thai by characters.

    Args:
        marks: punctuation counts as words of one character each.
    """
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return found if marks else [word for word in found if word[0].isalnum()]


def chinese(texts: Iterable[str]) -> bool:
    """Whether most words of the texts are Han characters, and they are no Japanese."""
    han = kana = others = 0
    for text in texts:
        for word in words(text, marks=False):
            if re.match(f"[{_HAN}]", word):
                han += 1
            elif re.match(f"[{_KANA}]", word):
                kana += 1
            else:
                others += 1
    return han > others + kana and kana <= _MOST_KANA * han


def latin(texts: Iterable[str]) -> bool:
    """Whether nearly all letters of the texts are a to z, as tools for English expect."""
    letters = plain = 0
    for text in texts:
        for letter in filter(str.isalpha, text):
            letters += 1
            plain += letter.isascii()
    return plain >= 0.95 * letters
