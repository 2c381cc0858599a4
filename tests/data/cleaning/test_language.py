"""The language of a text, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.core.errors import DataError
from pipeline.data.cleaning.language import LanguageJudge, is_english, judged

SHARED = Path(__file__).resolve().parents[4] / "shared/data"
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und läuft davon."
ENGLISH = "The quick brown fox jumps over the lazy dog and runs away from it."
CANTONESE = "佢哋唔知道今日嘅天氣點解咁熱，我哋不如去飲茶啦。"


def test_a_language_that_is_kept_passes_and_another_is_named() -> None:
    assert LanguageJudge(["en"]).refuse(ENGLISH) is None
    assert LanguageJudge(["en", "de"]).refuse(GERMAN) is None
    reason = LanguageJudge(["en"]).refuse(GERMAN)
    assert reason is not None
    assert reason.startswith("de ")


def test_a_low_probability_of_a_kept_language_is_told_as_such() -> None:
    reason = LanguageJudge(["en"], least_probability=1.0).refuse("Top up my card, por favor amigo")
    assert reason is not None
    assert reason.endswith(", under 1")


def test_chinese_takes_its_member_languages_too() -> None:
    assert LanguageJudge(["zh"]).refuse(CANTONESE) is None


def test_an_unknown_language_is_refused_with_those_known() -> None:
    with pytest.raises(DataError, match="keep: klingon is not known; choose from ace, af"):
        LanguageJudge(["klingon"]).refuse(ENGLISH)


def test_code_and_addresses_are_not_judged() -> None:
    assert judged("```\nfor i in range(3): pass\n```") == ""
    assert judged("see https://example.com/the/page or me@x.org") == "see   or"
    assert is_english("the quick brown fox and the dog `код`")


@pytest.mark.parametrize(
    ("name", "field", "language", "least"),
    [
        ("ag_news/test_small.jsonl", "text", "en", 0.99),
        ("alpaca_gpt4_demo/zh.jsonl", "output", "zh", 0.95),
    ],
)
def test_real_rows_are_in_their_language(
    name: str, field: str, language: str, least: float
) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"needs {name}")
    with path.open(encoding="utf-8") as lines:
        texts = [judged(json.loads(line)[field]) for line in lines][:300]
    texts = [text for text in texts if len(text) >= 20]
    judge = LanguageJudge([language])
    assert sum(judge.refuse(text) is None for text in texts) / len(texts) >= least
