"""Words, for heuristics that count them: by blanks, and by characters where there are none."""

from __future__ import annotations

import re

# Han, kana and bopomofo; Korean has blanks.
_IDEOGRAPH = (
    "\u3040-\u30ff\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_ONE = re.compile(f"[{_IDEOGRAPH}]")
_WORD = re.compile(f"[{_IDEOGRAPH}]|[^\\s{_IDEOGRAPH}]+")


def words(text: str) -> list[str]:
    """The words of a text in order; marks that stand alone are none.

    A Chinese or Japanese character counts as a word: nothing else is certain without a model.
    """
    found = text.split() if text.isascii() else _WORD.findall(text)
    return [word for word in found if any(map(str.isalnum, word))]


def by_characters(found: list[str]) -> bool:
    """Whether the words are mostly Chinese or Japanese characters."""
    return 2 * sum(1 for word in found if len(word) == 1 and _ONE.match(word)) > len(found)
