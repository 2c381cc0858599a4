"""What is taken out of an answer, and which answers are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.augmentation import (
    Ask,
    paraphrases,
    samples,
)
from pipeline.data.candidates import Sieve, another_language, names, taken_out
from pipeline.data.own_text import own_text
from pipeline.data.rows import Row
from tests.data.augmentation_case import CARDS, PLAIN, SETTINGS, SHARED, all_of, asks_of, shelf_of

# ---- what is taken out of an answer


@pytest.mark.parametrize(
    "answer",
    [
        "Where is it?", '"Where is it?"', "“Where is it?”", "1. Where is it?", "- Where is it?",
        "Paraphrase: Where is it?", "Here is the rewritten text:\n\nWhere is it?",
        "Sure! Here's a paraphrase: \"Where is it?\"", "<text>\nWhere is it?\n</text>",
        "```\nWhere is it?\n```", "<think>\nHm. \"No\"\n</think>\n\nWhere is it?",
        "Rewritten text: 1) 「Where is it?」", "改写后：Where is it?",
    ],
)  # fmt: skip
def test_wrapping_is_taken_off(answer: str) -> None:
    assert taken_out(answer) == "Where is it?"


@pytest.mark.parametrize(
    ("answer", "like"),
    [
        ('"Stop" and "go"', ""), ("'tis 5 o'clock", ""), ("'tis 5 o'clock in 'ere'", "'a'"),
        ('"Stop"', '"Go"'), ("1. Stop", "2. Go"), ("Here is why: no", "Here is how: so"),
        ("1. Stop\n2. Go", ""), ("10 pounds are missing", ""), ("-5 degrees", ""),
    ],
)  # fmt: skip
def test_what_a_text_wears_itself_is_left_on(answer: str, like: str) -> None:
    assert taken_out(answer, like) == answer


@given(st.text(st.sampled_from("ab \n\"'“”`1.-:<>texthink/`"), max_size=40), st.text(max_size=5))
def test_taking_out_is_idempotent(answer: str, like: str) -> None:
    once = taken_out(answer, like)
    assert taken_out(once, like) == once


# ---- what is refused


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    shelf = shelf_of(tmp_path, CARDS)
    return asks_of(paraphrases(shelf, all_of(shelf), SETTINGS, PLAIN))[-1]


def sifted(sieve: Sieve, ask: Ask, text: str, finish: str | None = "stop") -> str | None:
    return sieve.refuse(ask, text, ask.own.replaced(text), finish)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Please give me back the 20 pounds", None),
        ("", "empty"),
        ("?!", "empty"),
        ("i want MY 20 pounds... back!", "same as its original"),
        ("My card has NOT come yet", "stands in train"),
        ("20 pounds " * 20, "too long"),
        ("I'm sorry, but I can't do that. 20", "refused by the model"),
        ("As an AI language model, I have no 20 pounds", "refused by the model"),
        ("抱歉，我无法改写这段文字 20", "refused by the model"),
        ("I cannot get the 20 pounds back", None),
        ("Please give me the money back", "lost a number, an address or a field"),
        ("Please give me the 200 pounds back", "lost a number, an address or a field"),
        ("请把那 20 英镑退还给我", "another language"),
        ("I would like a refund of 20 pounds", "names its label"),
        ("Give 20 pounds\ufffdback", "damaged characters"),
        ("Give 20 pounds\x00back", "damaged characters"),
        ("Rewrite the <text> with 20 pounds", "repeats the request"),
        ("1. Give 20 back\n2. Return 20", "several texts"),
        ("<think> 20 pounds, hm", "cut off at max_new_tokens"),
    ],
)
def test_bad_texts_are_refused_with_their_reason(
    tmp_path: Path, ask: Ask, text: str, reason: str | None
) -> None:
    sieve = Sieve(shelf_of(tmp_path, CARDS), "paraphrase")
    assert sifted(sieve, ask, text) == reason


def test_an_answer_that_was_cut_off_or_filtered_is_refused(tmp_path: Path, ask: Ask) -> None:
    sieve = Sieve(shelf_of(tmp_path, CARDS), "paraphrase")
    assert sifted(sieve, ask, "Give me 20 po", "length") == "cut off at max_new_tokens"
    assert sifted(sieve, ask, "Give me 20", "content_filter") == "refused by the model"


def test_a_lone_surrogate_is_refused(tmp_path: Path, ask: Ask) -> None:
    sieve = Sieve(shelf_of(tmp_path, CARDS), "paraphrase")
    assert sifted(sieve, ask, "Give 20" + chr(0xD800)) == "damaged characters"


def test_a_text_passes_once(tmp_path: Path, ask: Ask) -> None:
    sieve = Sieve(shelf_of(tmp_path, CARDS), "paraphrase")
    assert sifted(sieve, ask, "Give my 20 pounds back") is None
    assert sifted(sieve, ask, "give my 20 POUNDS back!") == "made before"


def test_a_refused_text_does_not_bar_a_later_one(tmp_path: Path, ask: Ask) -> None:
    sieve = Sieve(shelf_of(tmp_path, CARDS), "paraphrase")
    assert sifted(sieve, replace(ask, longest=10), "Give my 20 pounds back") == "too long"
    assert sifted(sieve, ask, "Give my 20 pounds back") is None


def test_a_label_that_real_rows_name_may_be_named(tmp_path: Path, ask: Ask) -> None:
    rows = [*CARDS, {"text": "A refund, please", "label": "refund"}]
    sieve = Sieve(shelf_of(tmp_path, rows), "paraphrase")
    assert sifted(sieve, ask, "I would like a refund of 20 pounds") is None


def test_a_sampled_text_need_not_keep_the_numbers_of_its_examples(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, CARDS)
    ask = asks_of(samples(shelf, all_of(shelf), SETTINGS))[-1]
    sieve = Sieve(shelf, "sample")
    assert sifted(sieve, ask, "Please send the money back to me") is None
    assert sifted(sieve, ask, CARDS[3]["text"]) == "same as an example"


@pytest.mark.parametrize(
    ("text", "label", "found"),
    [
        ("It is about Card-Arrival, no?", "card_arrival", True),
        ("The cards arrival", "card_arrival", False),
        ("今天的体育新闻", "体育", True),
        ("今天的新闻", "体育", False),
        ("a 1 b", "1", False),
        ("it is 2024", "2024", False),
    ],
)
def test_the_name_of_a_label_is_found_as_it_reads(text: str, label: str, found: bool) -> None:
    assert names(text, label) is found


@pytest.mark.parametrize(
    ("text", "model", "other"),
    [
        ("Ich habe meine neue Karte noch nicht bekommen und warte seit Wochen darauf",
         "I have been waiting for my new card for some weeks and it has not come", True),
        ("My new card was to come some weeks ago and it is still not here with me",
         "I have been waiting for my new card for some weeks and it has not come", False),
        ("Karte?", "Card?", False),
        ("卡?", "Card?", True),
        ("12", "Card?", False),
    ],
)  # fmt: skip
def test_another_language_is_told_where_the_text_is_long_enough(
    text: str, model: str, other: bool
) -> None:
    assert another_language(text, model) is other


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not beside the checkout")
@pytest.mark.parametrize("name", ["banking77", "thucnews_titles", "ag_news"])
def test_real_texts_are_neither_refused_nor_unwrapped(tmp_path: Path, name: str) -> None:
    with (SHARED / name / "train.jsonl").open(encoding="utf-8") as file:
        lines = [json.loads(line) for _, line in zip(range(1000), file, strict=False)]
    rows: list[Row] = [{"text": row["text"]} for row in lines if "\ufffd" not in row["text"]]
    sieve = Sieve(shelf_of(tmp_path, [{"text": "nothing of the kind"}]), "sample")
    refused = []
    for before, row in pairwise(rows):
        ask = Ask("", "", 0, own_text(row), (before["text"],), None, 10**6, ())
        text = taken_out(row["text"], before["text"])
        if sifted(sieve, ask, text) not in (None, "made before", "same as an example"):
            refused.append(text)
    # Titles that are half Latin, half Chinese may be held against their neighbour's script.
    assert len(refused) <= len(rows) / 500, refused[:5]
