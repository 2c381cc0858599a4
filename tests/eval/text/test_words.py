"""Words of any script, and which texts are Chinese."""

from __future__ import annotations

import pytest

from eval.text.words import chinese, latin, words


def test_han_and_kana_are_words_by_themselves_and_others_are_cut_at_blanks() -> None:
    assert words("Don't stop, 我们走 well-known") == [
        "don't", "stop", ",", "我", "们", "走", "well-known",
    ]  # fmt: skip
    assert words("ＡＢＣ １２") == ["abc", "12"]
    assert words("a, b!", marks=False) == ["a", "b"]


@pytest.mark.parametrize(
    ("texts", "verdict"),
    [
        (["今天下雨。"], True),
        (["使用 API 查询余额"], True),
        (["It rains today."], False),
        (["The word 雨 means rain."], False),
        (["今日は雨が降っています"], False),
        ([""], False),
    ],
)
def test_chinese_is_told_from_english_and_japanese(texts: list[str], verdict: bool) -> None:
    assert chinese(texts) is verdict


def test_other_alphabets_are_not_latin() -> None:
    assert latin(["plain words"])
    assert not latin(["Идёт дождь"])
    assert not latin(["下雨"])
