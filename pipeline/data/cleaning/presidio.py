"""Microsoft Presidio's pattern recognisers, without its models and without network.

Each function finds one kind in a text that ``bordered`` has prepared, and narrows what Presidio
takes where its pattern is wider than the thing: the reason stands at each.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.data.cleaning.finders import Candidate

# ISO/IEC 7812 issuers by prefix and length: Visa (16), Mastercard, American Express, Discover, JCB,
# Diners Club, UnionPay. Presidio takes any number that begins with 1, 3, 4, 5 or 6, so that one
# in ten order numbers would be a card.
_ISSUERS = re.compile(
    r"4\d{15}|5[1-5]\d{14}|3[47]\d{13}|6(?:011|4[4-9]\d|5\d\d)\d{12}"
    r"|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[689]\d)\d{11}|62\d{14,15}"
)
_LOCAL_PART = re.compile(r"[\w.+'-]*\Z")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_US_GROUPED = re.compile(r"(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}")
_GB_GROUPED = re.compile(r"\(?0[1-9]\d{1,4}\)?[ -]\d{3,4}[ -]?\d{3,4}(?:[ -]\d{3,4})?")
_INTERNATIONAL = re.compile(r"\(?\+\d")
_HYPHENS = re.compile(r"\d{3}-\d\d-\d{4}")


@contextmanager
def _light_import() -> Iterator[None]:
    """Presidio and spaCy load torch and transformers if they can: 10 s and 420 MB each worker,
    for models that are not used here. With both hidden they take 1.2 s and 104 MB."""
    hidden = [name for name in ("torch", "transformers") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@functools.cache
def _recogniser(kind: str) -> Any:
    with _light_import():
        from presidio_analyzer import predefined_recognizers as presidio
    if kind == "PhoneRecognizer":
        # China's own numbers are in chinese_numbers; those with a + are found for any country.
        return presidio.PhoneRecognizer(supported_regions=("US", "GB"), leniency=1)
    if kind == "EmailRecognizer":
        return _offline_email(presidio.EmailRecognizer)
    return getattr(presidio, kind)()


def _offline_email(recogniser: Any) -> Any:
    import tldextract

    # The snapshot within the package: the default fetches the public suffix list.
    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class OfflineEmailRecognizer(recogniser):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool:
            return extract(pattern_text).fqdn != ""

    return OfflineEmailRecognizer()


def _spans(kind: str, text: str) -> list[tuple[int, int, float]]:
    recogniser = _recogniser(kind)
    found = recogniser.analyze(text, recogniser.supported_entities, None)
    return [(result.start, result.end, result.score) for result in found]


def emails(text: str) -> list[Candidate]:
    """E-mail addresses of a public domain; ``git@host`` is a program's name for one."""
    found = []
    for start, end, score in _spans("EmailRecognizer", text):
        at = text.rindex("@", start, end)
        # Presidio takes all that RFC 5322 allows: `to=<a@b.c>`, `/path?mail=a@b.c` whole.
        local = _LOCAL_PART.search(text, start, at)
        begin = local.start() if local else start
        begin += len(text[begin:at]) - len(text[begin:at].lstrip("'.-"))
        if begin < at and text[begin:at] != "git":
            found.append(Candidate("EMAIL_ADDRESS", begin, end, score, checked=True))
    return found


def credit_cards(text: str) -> list[Candidate]:
    """Numbers of a known issuer whose Luhn digit holds."""
    return [
        Candidate("CREDIT_CARD", start, end, score, checked=True)
        for start, end, score in _spans("CreditCardRecognizer", text)
        if _ISSUERS.fullmatch(re.sub("[ -]", "", text[start:end])) and _alone(text, start, end)
    ]


def ibans(text: str) -> list[Candidate]:
    """IBANs whose mod 97 check holds (ISO 13616)."""
    return [
        Candidate("IBAN_CODE", start, end, score, checked=True)
        for start, end, score in _spans("IbanRecognizer", text)
    ]


def social_security(text: str) -> list[Candidate]:
    """US social security numbers: with hyphens as Presidio scores them, else lower.

    Three groups with blanks or dots are as often amounts or dates: they need a word before them.
    """
    return [
        Candidate(
            "US_SSN",
            start,
            end,
            score if _HYPHENS.fullmatch(text[start:end]) else min(score, 0.3),
            checked=False,
        )
        for start, end, score in _spans("UsSsnRecognizer", text)
        if _alone(text, start, end)
    ]


def ips(text: str) -> list[Candidate]:
    """Public addresses only, as FineWeb redacts (Penedo et al. 2024): 127.0.0.1,
    192.168.0.1 and documentation addresses name nobody. Four single digits are a version."""
    found = []
    for start, end, score in _spans("IpRecognizer", text):
        value = text[start:end].split("/")[0].split("%")[0]
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            continue
        version_6 = isinstance(address, ipaddress.IPv6Address)
        # `dead::beef` and `a::b` are valid too, and more often code.
        if not address.is_global or (version_6 and address not in _GLOBAL_UNICAST):
            continue
        if not _alone(text, start, end) or text[max(0, start - 1) : start] in {"v", "V"}:
            continue
        single = len(value) == len("1.1.1.1")
        found.append(Candidate("IP_ADDRESS", start, end, 0.3 if single else score, checked=False))
    return found


def phones(text: str) -> list[Candidate]:
    """Phone numbers that phonenumbers knows as valid: with ``+`` 0.75, grouped as in the United
    States or the United Kingdom 0.6, bare digits 0.4 (Presidio's own score for all)."""
    found = []
    for start, end, score in _spans("PhoneRecognizer", text):
        number = text[start:end]
        if _INTERNATIONAL.match(number):
            # `7+4908374100427` is a sum.
            score = 0.75 if not text[max(0, start - 1) : start].isalnum() else score
        elif _US_GROUPED.match(number) or _GB_GROUPED.match(number):
            score = 0.6
        if _alone(text, start, end):
            found.append(Candidate("PHONE_NUMBER", start, end, score, checked=False))
    return found


def crypto(text: str) -> list[Candidate]:
    """Bitcoin addresses whose checksum holds (Base58Check, Bech32, Bech32m)."""
    return [
        Candidate("CRYPTO", start, end, score, checked=True)
        for start, end, score in _spans("CryptoRecognizer", text)
        if not text[max(0, start - 1) : start].isalnum() and not text[end : end + 1].isalnum()
    ]


def _alone(text: str, start: int, end: int) -> bool:
    """Whether a number is no part of a longer one: ``1.2.3.4.5``, ``4111-...-1111-2222``."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return not (re.fullmatch(r"\d[-.]", before) or re.fullmatch(r"[-.]\d", after))
