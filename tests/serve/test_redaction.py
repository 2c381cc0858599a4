"""What is replaced in logged texts, against lists and checks that others wrote."""

from __future__ import annotations

import time
from typing import Any

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from presidio_analyzer.predefined_recognizers import CreditCardRecognizer, IbanRecognizer

from serve.redaction import LONGEST, MOST, redacted, redacted_text

_CARDS, _IBANS = CreditCardRecognizer(), IbanRecognizer()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("write to ada.l@example.org now", "write to [e-mail] now"),
        ("ö@bücher.example, x", "[e-mail], x"),
        # Test numbers of the card networks, and one digit off one.
        ("card 4111 1111 1111 1111.", "card [card]."),
        ("card 4111-1111-1111-1111, 12/27", "card [card], 12/27"),
        ("4111 1111 1111 1111 12/27 123", "[card] 12/27 123"),
        ("card:378282246310005;", "card:[card];"),
        ("4111\u00a01111\u00a01111\u00a01111", "[card]"),
        ("card 4111 1111 1111 1112.", "card 4111 1111 1111 1112."),
        # Examples of the IBAN registry.
        ("to DE89 3704 0044 0532 0130 00 please", "to [iban] please"),
        ("GB82 WEST 1234 5698 7654 32 THANKS TO YOU", "[iban] THANKS TO YOU"),
        ("to gb82west12345698765432.", "to [iban]."),
        ("to GB83WEST12345698765432", "to GB83WEST12345698765432"),
        ("call +49 30 901820 or +1 (202) 555-0100", "call [phone] or [phone]"),
        ("call (202) 555-0100, 202-555-0100 or 020 7946 0958", "call [phone], [phone] or [phone]"),
        ("13812345678 and 0171/1234567", "[phone] and [phone]"),
        ("Bearer abcdefgh12345678", "Bearer [secret]"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic [secret]"),
        ("key gradus-_of1lCHpcZ_CvhZeQ6D8EvCGf-WY5R", "key [secret]"),
        ("sk-proj-0123456789abcdef0123", "[secret]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[secret]"),
    ],
)
def test_personal_data_and_secrets_are_replaced(text: str, said: str) -> None:
    assert redacted_text(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "order 12345 of 2026-11-27, 3.14159265358979", "on 27.11.2026 at 12:30",
        "2026-11-27T01:56:43Z", "ip 192.168.100.200", "version 1.2.3.4", "at 1732665600 s",
        "550e8400-e29b-41d4-a716-446655440000", "ISBN 978-3-16-148410-0", "1,234,567.89",
        "20261127", "12 34 56 78", "a @ b", "qwen3-0.6b-20250101", "1 2 3 4 5 6 7 8 9",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert redacted_text(text) == text


def test_an_example_number_of_every_country_is_found_in_both_international_forms() -> None:
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    forms = (phonenumbers.PhoneNumberFormat.E164, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    asked = 0
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in kinds:
            example = phonenumbers.example_number_for_type(region, kind)
            for form in forms if example else ():
                number = phonenumbers.format_number(example, form)
                assert redacted_text(f"call {number}, please") == "call [phone], please", number
                asked += 1
    assert asked > 800


@given(st.text("0123456789", min_size=12, max_size=18), st.sampled_from(["", " ", "-", "."]))
def test_a_number_that_luhns_sum_confirms_is_a_card(digits: str, gap: str) -> None:
    check = next(d for d in "0123456789" if _CARDS._CreditCardRecognizer__luhn_checksum(digits + d))  # type: ignore[attr-defined]
    whole = digits + check
    written = gap.join(whole[at : at + 4] for at in range(0, len(whole), 4))
    found = redacted_text(f"pay {written} now")
    assert "[card]" in found
    assert whole[-4:] not in found


@given(st.from_regex(r"\A[A-Z]{2}[A-Z0-9]{11,30}\Z"), st.sampled_from(["", " "]))
def test_an_account_number_that_mod_97_confirms_is_replaced(text: str, gap: str) -> None:
    country, rest = text[:2], text[2:]
    number = "".join(str(int(c, 36)) for c in f"{rest}{country}00")
    whole = f"{country}{98 - int(number) % 97:02d}{rest}"
    numbered = _IBANS._IbanRecognizer__number_iban(whole, _letters())  # type: ignore[attr-defined]
    assert int(numbered) % 97 == 1
    written = gap.join(whole[at : at + 4] for at in range(0, len(whole), 4))
    found = redacted_text(f"to {written}, please")
    assert "[iban]" in found
    assert whole not in found.replace(" ", "")


def _letters() -> dict[int, str]:
    return {ord(c): str(int(c, 36)) for c in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def test_names_and_numbers_of_a_json_value_are_looked_at_too() -> None:
    value: Any = {
        "ada@example.org": [4111111111111111, 13812345678, 10**5000, 12, True, None, 1.5],
        "more": {"deep": ["x ada@example.org"]},
    }
    assert redacted(value) == {
        "[e-mail]": ["[card]", "[phone]", "[number]", 12, True, None, 1.5],
        "more": {"deep": ["x [e-mail]"]},
    }


def test_a_cut_leaves_no_torn_number_behind() -> None:
    for offset in range(30):
        found = redacted_text("x" * (LONGEST - offset) + " 4111 1111 1111 1111 " + "y" * 100)
        assert "4111" not in found
        assert found.endswith("[cut]")


def test_of_a_great_value_no_more_is_looked_at_than_is_bounded() -> None:
    found = redacted(["word " * 3000] * 100)
    assert sum(len(text) for text in found) < MOST + LONGEST + 1000
    assert found[-1] == "[cut]"


@pytest.mark.parametrize(
    "text",
    ["a", "1 ", "1-", "+1", "a@", "a.", "@a.", "GB82", "GB82 ", "(01)", "0-", "0", "ey.", "sk-"],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    redacted_text(text * LONGEST)
    assert time.process_time() - began < 1.0
