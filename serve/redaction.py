"""Personal data and secrets in what is written down: replaced by what they were.

Found by form and by their own check digits, for texts of any language: cards by Luhn's sum (ISO/IEC
7812-1), account numbers by ISO 7064 MOD 97-10 (ISO 13616), phone numbers by their length (E.164).
Where form alone must decide, rather too much is replaced than too little.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LONGEST = 20_000
"""Characters of one text that are looked at; the rest is left out."""
MOST = 100_000
"""Characters of one value's texts together: looking at them must cost less than serving them."""
_LEAST_NUMBER = 10**8
_TORN = 64
"""What is found may be as long: at a cut the end of a text is left out too."""

_BEARER = re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}")
_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:gradus|sk|pk|hf|gh[pousr]|xox[abp])[-_][A-Za-z0-9_-]{16,}"
)
_TOKEN = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")
_MAIL = re.compile(r"[\w.+'-]{1,64}[@＠][\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")

# Between the groups of a number that people write.
_GAP = r"[ \u00a0\u2007\u2009\u202f.\-\u2010-\u2015]"
_DIGITS = re.compile(rf"(?<![\d\w])\d+(?:{_GAP}{{1,2}}\d+)*(?!\w)")
_IBAN = re.compile(rf"(?<![A-Za-z0-9])[A-Za-z]{{2}}\d{{2}}(?:{_GAP}?[A-Za-z0-9]){{11,30}}")
# A + or an 00 that a country code follows, or groups that begin as a national number does.
_ABROAD = re.compile(
    rf"(?<![\w.])(?:[+＋]{_GAP}?|00{_GAP}?(?=[1-9]))\(?\d(?:(?:{_GAP}|[()/]){{0,3}}\d){{6,14}}(?!\w)"
)
_AT_HOME = re.compile(
    # (0171) 123 456, 020 7946 0958, 212-555-0100, 600 123 456
    rf"(?<![\w.+-])(?:\(0?\d{{1,5}}\){_GAP}{{0,2}}|0\d{{1,4}}(?:{_GAP}|/){{1,2}})"
    rf"\d{{2,5}}(?:{_GAP}?\d{{2,5}}){{1,3}}(?!\w|\.\d)"
    rf"|(?<![\w.+-])\d{{3}}{_GAP}\d{{3}}{_GAP}\d{{3,4}}(?!\w|{_GAP}\d)"
    r"|(?<![\w.+-])0[1-9]\d{7,9}(?![\w.])"
    # Mobile numbers as China writes them: without any gap, or 3-4-4.
    rf"|(?<![\w.+-])1[3-9]\d{_GAP}?\d{{4}}{_GAP}?\d{{4}}(?!\w)"
)
_DATE = re.compile(r"(?:19|20)\d\d[-.]?[01]\d[-.]?[0-3]\d|[0-3]?\d[-.][01]?\d[-.](?:19|20)\d\d")


def redacted(value: Any) -> Any:
    """A JSON value with what its texts, names and numbers give away replaced."""
    left = MOST

    def text(found: str) -> str:
        nonlocal left
        if left <= 0:
            return "[cut]"
        left -= min(len(found), LONGEST)
        return redacted_text(found)

    def each(found: Any) -> Any:
        if isinstance(found, str):
            return text(found)
        if isinstance(found, Mapping):
            return {text(str(name)[:200]): each(inner) for name, inner in found.items()}
        if isinstance(found, list | tuple):
            return [each(inner) for inner in found]
        if isinstance(found, int) and abs(found) >= _LEAST_NUMBER:
            # Python does not write the longest at all.
            if abs(found) >= 10**40:
                return "[number]"
            clean = text(str(found))
            return found if clean == str(found) else clean
        return found

    return each(value)


def redacted_text(text: str) -> str:
    """Keys, e-mail addresses, account, card and phone numbers of a text replaced."""
    found = _BEARER.sub(r"\1[secret]", text[:LONGEST])
    found = _TOKEN.sub("[secret]", _SECRET.sub("[secret]", found))
    found = _MAIL.sub("[e-mail]", found)
    found = _replaced(_IBAN, _accounts, "[iban]", found)
    found = _replaced(_DIGITS, _cards, "[card]", found)
    found = _ABROAD.sub("[phone]", found)
    found = _AT_HOME.sub(lambda m: m[0] if _DATE.fullmatch(m[0]) else "[phone]", found)
    return found if len(text) <= LONGEST else found[:-_TORN] + "[cut]"


def _replaced(
    form: re.Pattern[str], spans: Callable[[str], Iterator[tuple[int, int]]], word: str, text: str
) -> str:
    """A text whose matches of ``form`` have their ``spans`` replaced."""

    def one(match: re.Match[str]) -> str:
        made, at = "", 0
        for start, end in spans(match[0]):
            made, at = made + match[0][at:start] + word, end
        return made + match[0][at:]

    return form.sub(one, text)


def _accounts(text: str) -> Iterator[tuple[int, int]]:
    """The longest beginning that ends with a group and whose remainder is right."""
    places = [i for i, c in enumerate(text) if c.isalnum()]
    for length in range(min(34, len(places)), 14, -1):
        end = places[length - 1] + 1
        plain = "".join(text[i] for i in places[:length])
        if end < len(text) and text[end].isalnum() and not _word_follows(text, end):
            continue
        if int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1:
            yield 0, end
            return


def _word_follows(text: str, end: int) -> bool:
    """Letters behind digits, as where a sentence goes on without a space."""
    return text[end - 1].isdigit() and text[end].isalpha()


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """Runs of whole groups with 13 to 19 digits and Luhn's sum; the longest from each group."""
    groups, starts, sums = [], [0], ([0], [0])
    for match in re.finditer(r"\d+", text):
        groups.append((match.start(), match.end()))
        for place, digit in enumerate(map(int, match[0]), starts[-1]):
            # Every second digit from the right is doubled: the even places, or the odd ones.
            twice = 2 * digit - 9 * (digit > 4)
            for odd, row in enumerate(sums):
                row.append(row[-1] + (twice if place % 2 == odd else digit))
        starts.append(starts[-1] + match.end() - match.start())
    first = 0
    while first < len(groups):
        taken = None
        for last in range(first, len(groups)):
            start, end = starts[first], starts[last + 1]
            if end - start > 19:
                break
            row = sums[end % 2]
            if end - start >= 13 and (row[end] - row[start]) % 10 == 0:
                taken = last
        if taken is None:
            first += 1
        else:
            yield groups[first][0], groups[taken][1]
            first = taken + 1
