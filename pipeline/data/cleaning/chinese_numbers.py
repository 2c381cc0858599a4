"""Chinese numbers that Presidio has no recogniser for: resident IDs, phones, long bank cards."""

from __future__ import annotations

import datetime
import re

from pipeline.data.cleaning.finders import Candidate

_ID = re.compile(r"(?<![0-9A-Za-z])([1-9]\d{5})((?:18|19|20)\d{6})(\d{3})([\dXx])(?![0-9A-Za-z])")
# GB/T 2260: the first two digits of a division; 83 and 91 of GB/T and residence permits.
_PROVINCE_CODES = (
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 "
    "71 81 82 83 91"
)
_PROVINCES = frozenset(_PROVINCE_CODES.split())
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"
_MOBILE = re.compile(
    r"(?<![0-9A-Za-z])(?<!\d[-. ])(?:(?:\+|00)?86[- ]?)?"
    r"(1[3-9]\d(?P<gap>[- ]?)\d{4}(?P=gap)\d{4})(?![0-9A-Za-z])(?![-. ]\d)"
)
_LANDLINE = re.compile(
    r"(?<![0-9A-Za-z])(?<!\d[-. ])((?:\+86[- ]?)?(?:\(0\d{2,3}\) ?|0\d{2,3}(?P<gap>[- ]?))"
    r"[2-9]\d{6,7})(?:-\d{1,5})?(?![0-9A-Za-z])(?![-. ]\d)"
)
_CARD = re.compile(r"(?<![0-9A-Za-z])(?<!\d[- ])62\d{14,17}(?![0-9A-Za-z])")


def valid_resident_id(number: str) -> bool:
    """Whether 18 characters are a resident ID: division, date of birth, check character.

    Source: GB 11643-1999; the check character is ISO 7064 MOD 11-2.
    """
    match = _ID.fullmatch(number)
    if match is None or number[:2] not in _PROVINCES:
        return False
    try:
        datetime.date.fromisoformat(match[2])
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number[:17], _WEIGHTS, strict=True))
    return _CHECKS[total % 11] == number[17].upper()


def resident_ids(text: str) -> list[Candidate]:
    """Resident IDs whose check character holds."""
    return [
        Candidate("CN_RESIDENT_ID", match.start(), match.end(), 1.0, checked=True)
        for match in _ID.finditer(text)
        if valid_resident_id(match[0])
    ]


def luhn(digits: str) -> bool:
    """Whether the last digit is the others' check digit (ISO/IEC 7812-1, annex B)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(int(digit) for digit in digits[-1::-2]) + sum(doubled)) % 10 == 0


def union_pay_cards(text: str) -> list[Candidate]:
    """UnionPay cards of 16 to 19 digits; Presidio's pattern ends at 17."""
    return [
        Candidate("CREDIT_CARD", match.start(), match.end(), 1.0, checked=True)
        for match in _CARD.finditer(text)
        if luhn(match[0])
    ]


def phones(text: str) -> list[Candidate]:
    """Mobile and landline numbers of mainland China that phonenumbers knows as assigned.

    Written with separators or a country code they score 0.6; bare digits score 0.6 between
    line breaks (what ``bordered`` makes of Chinese characters) and 0.4 elsewhere: eleven digits
    in an English text are more often something else.
    """
    found = []
    for match in (*_MOBILE.finditer(text), *_LANDLINE.finditer(text)):
        if not _assigned(match[1]):
            continue
        mobile = match.re is _MOBILE
        plain = match[0].isdigit()
        chinese = mobile and "\n" in text[max(0, match.start() - 2) : match.end() + 2]
        score = 0.6 if not plain or chinese else 0.4
        found.append(Candidate("PHONE_NUMBER", match.start(), match.end(), score, checked=False))
    return found


def _assigned(number: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, "CN"))
    except phonenumbers.NumberParseException:
        return False
