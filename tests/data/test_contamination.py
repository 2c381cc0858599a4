"""What counts as a training row that knows a test item, and what does not."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.contamination import (
    Item,
    RowTexts,
    row_texts,
    trains_on_test,
    with_passages,
)
from pipeline.data.contamination_index import ContaminationIndex
from pipeline.data.contamination_proof import is_exact, near_score
from pipeline.data.shingles import letters_and_digits

PASSAGE = "The harbour opened in 1887 and was dredged twice before the war. " * 4


def kinds(item: str | Item, *rows: str | RowTexts) -> list[str | None]:
    """How each row knows the item, or None."""
    asked = Item("test", "0", item) if isinstance(item, str) else item
    found = {hit.row: hit.kind for hit in ContaminationIndex.build([asked]).find(rows)}
    return [found.get(index) for index in range(len(rows))]


@pytest.mark.parametrize(
    "text",
    [
        "Is my card lost?",
        "is my CARD lost",
        " Is  my\ncard--lost ",
        "Ｉｓ ｍｙ ｃａｒｄ ｌｏｓｔ？",
    ],
)
def test_dress_does_not_hide_a_row(text: str) -> None:
    assert kinds("Is my card lost?", text) == ["exact"]


@pytest.mark.parametrize("text", ["Is a card last?", "Is my card", "lost", ""])
def test_another_text_is_another_text(text: str) -> None:
    assert kinds("Is my card lost?", text) == [None]


def test_sharp_s_and_ligatures_are_folded() -> None:
    assert letters_and_digits("STRASSE") == letters_and_digits("Straße")
    assert letters_and_digits("\ufb01ne") == "fine"
    assert letters_and_digits("河北省，高考！") == "河北省高考"


@given(st.text())
def test_letters_and_digits_are_what_unicode_says(text: str) -> None:
    folded = unicodedata.normalize("NFKC", text).casefold()
    # re's \w is the alphanumerics and the underscore, by its own tables.
    assert letters_and_digits(text) == re.sub(r"[\W_]", "", folded)


def test_texts_of_symbols_alone_say_nothing() -> None:
    assert kinds("?!", "...", "?!", "") == [None, None, None]


def test_a_changed_word_in_a_long_text_is_near_and_a_short_text_needs_all() -> None:
    long = "How long does it take for a bank transfer to another country to arrive there"
    assert kinds(long, long.replace("another", "one other")) == ["near"]
    assert kinds("hey", "hex", "hey!") == [None, "exact"]


@pytest.mark.parametrize(
    ("item", "row", "kind"),
    [
        ("hi", "hi there, hi all of you", None),
        ("what is it to", "and that is what is it to me, he said", None),
        ("how do i close accounts", "Ask: how do I close accounts, and when?", "contained"),
        ("how do i close accounts", "how do i close account sets, in the end", None),
        ("card is closed now", "Our postcard is closed now, and it stays so all day", None),
        ("周末影响市场重要资讯", "昨日公布：周末影响市场重要资讯回顾及展望，请看", "contained"),
        ("周末影响市场重", "昨日公布：周末影响市场重要资讯回顾及展望，请看", None),
        ("สวัสดีครับผม", "เขาพูดว่าสวัสดีครับผมแล้วก็เดินจากไปอย่างเงียบๆ", "contained"),
        ("Nokia 3310 手机降价", "快讯:Nokia 3310 手机降价了,本周末开始在各大商场销售", "contained"),
    ],
)  # fmt: skip
def test_containment_needs_whole_tokens_and_enough_of_them(
    item: str, row: str, kind: str | None
) -> None:
    assert kinds(item, row) == [kind]


def test_a_long_item_may_differ_somewhere_and_a_part_of_it_is_not_the_item() -> None:
    words = [f"word{index}" for index in range(120)]
    item = " ".join(words)
    around = " ".join(f"other{index}" for index in range(200))
    changed = " ".join([*words[:60], "else", *words[61:]])
    assert kinds(item, f"{around} {item}", f"{around} {changed}") == ["contained", "contained"]
    assert kinds(item, f"{around} {' '.join(words[:80])}") == [None]


def test_an_item_in_an_answer_is_found() -> None:
    row = row_texts(
        {
            "id": "a",
            "messages": [
                {"role": "user", "content": "Give me an example of a question."},
                {"role": "assistant", "content": "Sure: where can I change my old passport?"},
            ],
        }
    )
    assert kinds("Where can I change my old passport?", row) == ["contained"]


def test_each_turn_of_the_user_is_judged_by_itself() -> None:
    turns = ["Hello", "Where may I change my old passport and my identity card today?", "Thanks"]
    messages = [
        message
        for turn in turns
        for message in ({"role": "user", "content": turn}, {"role": "assistant", "content": "Ok."})
    ]
    row = row_texts({"id": "a", "messages": messages})
    assert kinds("Where may I change my old passport and my identity cards today?", row) == ["near"]
    assert kinds("where may i change my OLD passport and my identity card today", row) == ["exact"]
    assert kinds("Thanks", row) == [None]
    assert kinds("Thanks", "thanks!") == ["exact"]


def test_a_row_is_recognised_by_its_question_and_not_by_its_answer() -> None:
    turns = [("system", "s"), ("user", "one"), ("assistant", "x"), ("user", "two")]
    rows: list[dict[str, Any]] = [
        {"id": "1", "text": "a", "label": "b"},
        {"id": "2", "messages": [{"role": r, "content": c} for r, c in turns]},
        {"id": "3", "messages": [{"role": "user", "content": "Label: q"}], "source_text": "q"},
    ]
    assert [row_texts(row).recognised for row in rows] == [
        ("a",),
        ("one\ntwo", "s\none\nx\ntwo", "one", "two", "s"),
        ("q",),
    ]


@pytest.mark.parametrize("apart", [True, False])
def test_a_shared_passage_is_no_copy_and_the_same_question_on_it_is(apart: bool) -> None:
    questions = ["When did it open?", "How often was it dredged before the war?"]
    if apart:
        items = [Item("qa", str(i), q, PASSAGE.strip()) for i, q in enumerate(questions)]
    else:
        items = [Item("qa", str(i), f"{PASSAGE}\n{q}") for i, q in enumerate(questions)]
    index = ContaminationIndex.build(items)
    other = f"{PASSAGE}\nWho paid for all of it?"
    rows = [
        RowTexts("", (other,), f"{other}\nThe town."),
        RowTexts("", (PASSAGE,), PASSAGE),
        RowTexts("", (f"{PASSAGE}\nwhen did it open",), f"{PASSAGE}\nwhen did it open\n1887"),
        RowTexts("", ("Summarise.",), f"Summarise.\n{PASSAGE * 3}\nQ: {questions[1]} A: Twice."),
    ]
    found = [(hit.row, hit.item, hit.kind) for hit in index.find(rows)]
    assert found == [(2, 0, "exact"), (3, 1, "contained")]


def test_a_question_that_stands_in_its_passage_must_stand_beside_it_too() -> None:
    item = Item("qa", "0", "dredged twice", PASSAGE.strip())
    once = PASSAGE.strip()
    assert kinds(item, f"Read: {once} Who paid?", f"Read: {once} dredged twice") == [
        None,
        "contained",
    ]


def test_what_several_items_begin_with_is_their_passage() -> None:
    texts = [
        f"{PASSAGE}\nfirst",
        f"{PASSAGE}\nsecond",
        "alone",
        f"{PASSAGE}\n",
        "short\na",
        "short\nb",
    ]
    items = [Item("a", str(index), text) for index, text in enumerate(texts)]
    other = Item("b", "0", f"{PASSAGE}\nthird")
    parted = with_passages([*items, other])
    assert [bool(item.context) for item in parted] == [True, True, *[False] * 5]
    assert [item.text for item in parted[:2]] == ["first", "second"]
    assert [item.whole for item in parted] == [*texts, other.text]


def test_half_of_a_suite_is_training_on_it() -> None:
    assert trains_on_test(50, 100)
    assert not trains_on_test(49, 100)
    assert not trains_on_test(0, 0)


def test_a_long_question_beside_its_passage_may_differ_somewhere() -> None:
    words = [f"word{index}" for index in range(80)]
    item = Item("qa", "0", " ".join(words), PASSAGE.strip())
    changed = " ".join([*words[:2], *words[3:]])
    answers = [f"Read. {PASSAGE * 2} Then: {end}" for end in (changed, " ".join(words[:50]))]
    rows = [RowTexts("", ("Make an exercise.",), answer) for answer in answers]
    assert kinds(item, *rows) == ["contained", None]


def test_what_hashes_find_is_proven_by_the_texts() -> None:
    item = Item("test", "0", "Where can I change my old passport?")
    assert near_score(item, "Where can I buy a new passport photo?") is None
    assert near_score(item, "") is None
    assert not is_exact(Item("test", "0", "?"), "!")
