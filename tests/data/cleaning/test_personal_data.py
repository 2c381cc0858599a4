"""Personal data: public test values are found, wrong checksums and other numbers stay."""

from __future__ import annotations

import datetime
import socket
import subprocess
import sys
import time

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data.cleaning.chinese_numbers import luhn, resident_ids, valid_resident_id
from pipeline.data.cleaning.personal_data import PersonalDataAnalyser, bordered

analyser = PersonalDataAnalyser()


@pytest.mark.parametrize(
    ("entity", "value"),
    [
        ("EMAIL_ADDRESS", "john.doe+x@mail.example.co.uk"),
        ("CREDIT_CARD", "4111 1111 1111 1111"),
        ("CREDIT_CARD", "4111-1111-1111-1111"),
        ("CREDIT_CARD", "5555555555554444"),
        ("CREDIT_CARD", "378282246310005"),
        ("IBAN_CODE", "GB82 WEST 1234 5698 7654 32"),
        ("IBAN_CODE", "DE89370400440532013000"),
        ("US_SSN", "219-09-9999"),
        ("IP_ADDRESS", "93.184.216.34"),
        ("IP_ADDRESS", "2606:4700:4700::1111"),
        ("PHONE_NUMBER", "+44 20 7946 0958"),
        ("PHONE_NUMBER", "(415) 555-2671"),
        ("PHONE_NUMBER", "+86 138 0013 8000"),
        ("PHONE_NUMBER", "138-0013-8000"),
        ("PHONE_NUMBER", "010-62345678"),
        ("CRYPTO", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"),
        ("CRYPTO", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        ("CN_RESIDENT_ID", "11010519491231002X"),
    ],
)
@pytest.mark.parametrize("frame", ["{}", "It is {}, she said.", "这是{}，谢谢", "我的是{}请查收"])
def test_a_public_test_value_is_redacted_in_english_and_chinese(
    entity: str, value: str, frame: str
) -> None:
    assert analyser.redact(frame.format(value)) == frame.format(f"<{entity}>")


@pytest.mark.parametrize(
    "text",
    [
        # Checksums that do not hold, a date that is none, a province that is none.
        "4111 1111 1111 1112",
        "GB83 WEST 1234 5698 7654 32",
        "110105194912310021 11010519491331002X 991015194912310020",
        "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3",
        # Orders, dates, versions, amounts.
        "order 4155552671, order number 415-555-2671, Invoice 20240115-0042",
        "订单号13800138000 订单编号：202401151234567890",
        "order 13812345678 and tracking 9400110200881234567890",
        "2024-01-15 10:30:22, 15/01/2024, 2010年10月10日, 1990-2010",
        "version 1.2.3.4, v10.0.19041.1, Chrome 120.0.6099.109, 1.3.6.1.4.1.311",
        "$1,234,567.89 and 100 000 000 and 金额12345678.90元 and 2,147,483,647",
        "timestamps 1700000000 1700000000000, pi 3.14159265358979",
        "7+4908374100427 = x + 62426244000",
        "ISBN 978-3-16-148410-0 and 550e8400-e29b-41d4-a716-446655440000",
        # Not personal, or not what it looks like.
        "127.0.0.1, 192.168.1.1, 203.0.113.7, ::1",
        "std::vector<int> a::b dead::beef 12:30:45",
        "git@github.com:user/repo.git, icon@2x.png, @decorator x @ y, user@localhost",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert analyser.redact(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("phone 4155552671", "phone <PHONE_NUMBER>"),
        ("SSN: 219 09 9999", "SSN: <US_SSN>"),
        ("her IP 1.1.1.1", "her IP <IP_ADDRESS>"),
        ("座机010-62345678", "座机<PHONE_NUMBER>"),
        ("用户１３８００１３８０００！", "用户<PHONE_NUMBER>！"),
        ("邮箱ａ＠example．com", "邮箱<EMAIL_ADDRESS>"),
        ("mailto:a@b.com?subject=x", "mailto:<EMAIL_ADDRESS>?subject=x"),
        ("to=<c@d.org>", "to=<<EMAIL_ADDRESS>>"),
    ],
)  # fmt: skip
def test_a_word_before_it_or_another_dress_decides(text: str, clean: str) -> None:
    assert analyser.redact(text) == clean


@pytest.mark.parametrize("region", ["US", "GB", "CN", "DE", "IN"])
def test_an_example_number_of_phonenumbers_is_found_in_international_form(region: str) -> None:
    number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    assert analyser.redact(f"Write to {written} please") == "Write to <PHONE_NUMBER> please"


@given(st.text("0123456789", min_size=16, max_size=16))
def test_one_check_digit_of_ten_holds(digits: str) -> None:
    by_hand = [
        sum(int(d) if i % 2 == 0 else (2 * int(d)) // 10 + (2 * int(d)) % 10
            for i, d in enumerate(reversed(digits + check))) % 10 == 0
        for check in "0123456789"
    ]  # fmt: skip
    assert [luhn(digits + check) for check in "0123456789"] == by_hand
    assert sum(by_hand) == 1


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)), st.integers(0, 999))
def test_the_check_character_of_a_resident_id_is_iso_7064(day: datetime.date, order: int) -> None:
    stem = f"110105{day:%Y%m%d}{order:03}"
    # ISO 7064, MOD 11-2 as a polynomial: the whole number is 1 modulo 11, X being 10.
    right = [
        check
        for check in "0123456789X"
        if (2 * sum(int(d) * 2 ** (16 - i) for i, d in enumerate(stem))
            + "0123456789X".index(check)) % 11 == 1
    ]  # fmt: skip
    assert [c for c in "0123456789X" if valid_resident_id(stem + c)] == right
    assert len(right) == 1
    assert len(resident_ids(f"证{stem}{right[0]}号")) == 1


@given(st.text())
def test_the_bordered_text_is_as_long_as_the_text(text: str) -> None:
    assert len(bordered(text)) == len(text)


PIECES = st.lists(
    st.sampled_from(
        ["a@b.com", "4111111111111111", "1", "38", "00138000", "+", "-", " ", "中", "@", ".", "<",
         ">", "11010519491231002X", "GB82 WEST 1234 5698 7654 32", "415-555-2671", "phone ", "\n"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(PIECES)
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = analyser.redact(text)
    assert analyser.find(once) == []
    assert analyser.redact(once) == once


@given(PIECES)
def test_what_is_found_does_not_overlap(text: str) -> None:
    found = analyser.find(text)
    ends = [0, *(candidate.end for candidate in found)]
    assert all(end <= candidate.start for end, candidate in zip(ends, found, strict=False))


def test_only_the_entities_asked_for_are_found() -> None:
    text = "a@b.com 4111 1111 1111 1111"
    only = PersonalDataAnalyser(("CREDIT_CARD",))
    assert only.redact(text) == "a@b.com <CREDIT_CARD>"


def test_an_entity_that_is_not_offered_is_refused_with_those_that_are() -> None:
    with pytest.raises(DataError, match=r"PERSON is not offered; choose from EMAIL_ADDRESS"):
        PersonalDataAnalyser(("PERSON",))


def test_a_lower_score_takes_bare_numbers_too() -> None:
    assert analyser.redact("4155552671") == "4155552671"
    assert PersonalDataAnalyser(least_score=0.4).redact("4155552671") == "<PHONE_NUMBER>"


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("no network here")

    from pipeline.data.cleaning import presidio

    presidio._recogniser.cache_clear()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert analyser.redact("jo@example.co.uk") == "<EMAIL_ADDRESS>"


def test_presidio_brings_no_torch_and_does_not_hide_it_afterwards() -> None:
    program = (
        "import sys, importlib.util\n"
        "from pipeline.data.cleaning.personal_data import PersonalDataAnalyser\n"
        "analyser = PersonalDataAnalyser()\n"
        "analyser.redact('nothing here')\n"
        "assert 'presidio_analyzer' not in sys.modules\n"
        "print(analyser.redact('a@b.com'))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "assert importlib.util.find_spec('transformers')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "<EMAIL_ADDRESS>\n", done.stderr


@pytest.mark.parametrize("piece", ["a@", "1-", "1", "1.", "(1", "1a", "::", "a@b.com "])
def test_time_is_near_linear_in_hostile_text(piece: str) -> None:
    analyser.redact("a@b.com 415-555-2671 1.2.3.4")
    started = time.perf_counter()
    analyser.find(piece * (20_000 // len(piece)))
    assert time.perf_counter() - started < 10
