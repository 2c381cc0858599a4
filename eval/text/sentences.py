"""Where sentences end: a stated rule instead of a downloaded model.

A sentence ends at ``.``, ``!``, ``?`` or ``...`` (with the quotes and brackets that close behind
it) before a blank or the end, and at the Chinese and Japanese stops wherever they stand. A full
stop behind a known abbreviation (``Dr.``, ``U.S.``) ends one only before a word that usually
opens a sentence (``He``, ``The``); behind an initial (``J.``) before such a word or a number;
behind a number not before a small letter, and behind ``e.g.`` never. Three dots end none before
a small letter. Line breaks are blanks. A piece without letters and digits is no sentence.

The abbreviations are those that NLTK's Punkt model for English knows, of those tried: a test
holds verdicts against it.
"""

from __future__ import annotations

import re

_SHORTENED = frozenset(
    {
        "mr", "mrs", "ms", "dr", "prof", "st", "gen", "col", "lt", "sen", "rep", "vs", "inc",
        "ltd", "co", "corp", "jr", "sr", "u.s", "u.k", "u.n", "a.m", "p.m", "ph.d", "jan", "feb",
        "aug", "sep", "sept", "oct", "nov", "dec",
    }
)  # fmt: skip
_INSIDE = frozenset({"e.g", "i.e"})
_OPENING = frozenset(
    {
        "a", "after", "all", "although", "an", "and", "as", "at", "because", "before", "but", "by",
        "each", "every", "for", "from", "he", "her", "here", "his", "how", "however", "i", "if",
        "in", "is", "it", "its", "later", "many", "most", "my", "no", "not", "now", "on", "once",
        "one", "or", "our", "she", "since", "so", "some", "such", "that", "the", "their", "then",
        "there", "these", "they", "this", "those", "to", "today", "under", "until", "we", "what",
        "when", "where", "while", "who", "why", "with", "yet", "you", "your",
    }
)  # fmt: skip
_CLOSING = "\"'”’»)\\]}*"
_STOP = re.compile(rf"(?:[.!?…]+[{_CLOSING}]*(?=\s|$))|(?:[。！？｡]+[{_CLOSING}」』）]*)")
_LAST_WORD = re.compile(r"[\w.]*$")
_FIRST_WORD = re.compile(r"\w+")


def count_sentences(text: str) -> int:
    """Sentences of a text; 0 for one without letters and digits."""
    return len(sentences(text))


def sentences(text: str) -> list[str]:
    """The sentences in their order, without the blanks around them."""
    found: list[str] = []
    start = 0
    for match in _STOP.finditer(text):
        if not _ends(text, match):
            continue
        _add(found, text[start : match.end()])
        start = match.end()
    _add(found, text[start:])
    return found


def _add(found: list[str], piece: str) -> None:
    if any(letter.isalnum() for letter in piece):
        found.append(piece.strip())


def _ends(text: str, match: re.Match[str]) -> bool:
    mark = match[0].rstrip("\"'”’»)]}*」』）")
    rest = text[match.end() :].lstrip().lstrip("\"'“‘«([*")
    following = rest[:1]
    if set(mark) <= {".", "…"} and mark != ".":
        return not following.islower()
    if mark != "." or not following:
        return True
    before, after = _LAST_WORD.search(text[: match.start()]), _FIRST_WORD.match(rest)
    word = before[0].casefold() if before else ""
    opens = following.isupper() and after is not None and after[0].casefold() in _OPENING
    if word in _INSIDE:
        return False
    if word in _SHORTENED:
        return opens
    if len(word) == 1 and word.isalpha():
        return opens or following.isdigit()
    return not (word.isdigit() and following.islower())
