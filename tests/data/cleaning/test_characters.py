"""Unicode form, invisible characters, damage and blanks."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.cleaning.characters import (
    composed,
    damage,
    tidy,
    without_controls,
    without_damage,
)

SHARED = Path(__file__).resolve().parents[4] / "shared/data"
MIXED = st.text() | st.text(
    st.sampled_from(list("ab \t\n\r\x00\x85\u200b\u200c\u200d\u202e\ufeff\u2028\u3000\xa0क्ب`👨👩")),
    max_size=30,
)


@given(st.text(), st.sampled_from(["NFC", "NFKC"]))
def test_composed_is_what_unicodedata_says(text: str, form: str) -> None:
    assert composed(text, form) == unicodedata.normalize(form, text)  # type: ignore[arg-type]


@given(MIXED)
def test_no_control_character_is_left_but_line_feed_and_tab(text: str) -> None:
    left = {c for c in without_controls(text) if unicodedata.category(c) == "Cc"}
    assert left <= {"\n", "\t"}


@given(st.text(st.characters(exclude_categories=["Cc", "Cf"])))
def test_visible_characters_all_stay(text: str) -> None:
    assert without_controls(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\x00b\x07c\x7fd\x9fe", "abcde"),
        ("one\r\ntwo\rthree\x85four", "one\ntwo\nthree\nfour"),
        ("\ufeffhello\u200b wor\xadld\u2060", "hello world"),
        ("if admin\u202e \u2066// check\u2069", "if admin // check"),
        ("a\u200db\u200cc", "abc"),
    ],
)
def test_invisible_characters_go(text: str, clean: str) -> None:
    assert without_controls(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cخواهم",  # Persian: a ZWNJ between two joining letters
        "क्\u200dष and क्\u200cष",  # Devanagari: behind a virama (RFC 5892, A.1 and A.2)
        "ශ්\u200dරී",  # Sinhala
        "👨\u200d👩\u200d👧",
        "👩🏽\u200d💻",
        "❤\ufe0f\u200d🔥",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # the flag of England
        "ภาษา\u200bไทย",  # Thai: the boundary of a word
    ],
)
def test_joiners_that_a_script_needs_stay(text: str) -> None:
    assert without_controls(text) == text


def test_lost_bytes_and_half_surrogates_are_damage() -> None:
    assert damage("caf\ufffd \ud83d!") == 2
    assert without_damage("caf\ufffd \ud83d!") == "caf !"
    assert damage("café 😀") == 0


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  a   b \t c  ", "a b c"),
        ("a\xa0b\u3000c", "a b c"),
        ("a \n \n\n\n b", "a\n\n b"),
        ("a\r\nb\u2028c\x0bd", "a\nb\nc\nd"),
        ("- a\n  - b   c\n\t- d", "- a\n  - b c\n\t- d"),
        ("name\tage", "name\tage"),
        ("x  y\n```\na  =  1\n\n\n\nb\n```\nz  ", "x y\n```\na  =  1\n\n\n\nb\n```\nz"),
        ("set `a  b`  now", "set `a  b` now"),
    ],
)
def test_tidy(text: str, clean: str) -> None:
    assert tidy(text) == clean


@given(MIXED)
def test_tidy_changes_only_blanks(text: str) -> None:
    clean = tidy(text)
    assert "".join(clean.split()) == "".join(text.split())
    assert tidy(clean) == clean


@given(st.text(st.sampled_from(list("ab \n")), max_size=20))
def test_tidy_leaves_no_run_of_blanks_within_a_line_and_no_second_empty_line(text: str) -> None:
    assert not re.search(r"\S  |[ ]\n|\n\n\n", tidy(text))


def test_damage_of_thucnews_is_as_counted() -> None:
    folder = SHARED / "thucnews_titles"
    if not folder.is_dir():
        pytest.skip(f"needs {folder.name}")
    counts = []
    for name in ("train.jsonl", "test.jsonl"):
        with (folder / name).open(encoding="utf-8") as lines:
            counts.append(sum(damage(json.loads(line)["text"]) > 0 for line in lines))
    assert counts == [161, 27]
