"""Which kinds of personal data are looked for, and by what.

Each kind has a gate, a cheap pattern without which the finder is never asked (nor its package
loaded), and a finder: a recogniser of Microsoft Presidio, or one of ``chinese_numbers``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

ENTITIES = (
    "EMAIL_ADDRESS",
    "CREDIT_CARD",
    "IBAN_CODE",
    "US_SSN",
    "IP_ADDRESS",
    "PHONE_NUMBER",
    "CRYPTO",
    "CN_RESIDENT_ID",
)


class Candidate(NamedTuple):
    """A place that may hold personal data; ``checked``: by a checksum or a register."""

    entity: str
    start: int
    end: int
    score: float
    checked: bool


class Finder(NamedTuple):
    """How one kind is found; ``reach``: the characters beside the gate that may belong to it."""

    entity: str
    gate: re.Pattern[str]
    reach: int
    find: Callable[[str], list[Candidate]]


def finders(entities: Sequence[str]) -> list[Finder]:
    """The finders of these kinds; nothing is loaded yet."""
    from pipeline.data.cleaning import chinese_numbers, presidio

    number = r"\d(?:[ ().\u00a0\u2010-\u2015-]{0,3}\d){6,}"
    offered = [
        # RFC 5321, section 4.5.3.1: 64 octets before the @, 255 behind it.
        Finder("EMAIL_ADDRESS", re.compile("@"), 321, presidio.emails),
        Finder("CREDIT_CARD", re.compile(r"\d(?:[ -]?\d){11,}"), 24, presidio.credit_cards),
        Finder("CREDIT_CARD", re.compile(r"62\d{14}"), 24, chinese_numbers.union_pay_cards),
        Finder("IBAN_CODE", re.compile(r"[A-Z]{2}\d\d[ -]?[A-Z0-9]{4}"), 50, presidio.ibans),
        Finder("US_SSN", re.compile(r"\d{3}[- .]?\d\d[- .]?\d{4}"), 8, presidio.social_security),
        Finder("IP_ADDRESS", re.compile(r"\d\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:"), 60, presidio.ips),
        Finder("PHONE_NUMBER", re.compile(number), 24, presidio.phones),
        Finder("PHONE_NUMBER", re.compile(r"1[3-9]\d|\b0\d\d"), 24, chinese_numbers.phones),
        Finder("CRYPTO", re.compile(r"(?:bc1|[13])[a-zA-Z0-9]{25}"), 100, presidio.crypto),
        Finder("CN_RESIDENT_ID", re.compile(r"\d{17}[\dXx]"), 4, chinese_numbers.resident_ids),
    ]
    return [finder for finder in offered if finder.entity in entities]
