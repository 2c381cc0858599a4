"""What counts as a training row that knows a test item, and what does not."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.contamination import (
    MOST_HITS,
    Hit,
    Item,
    KeptHits,
    RowTexts,
    item_of_row,
    row_texts,
    trains_on_test,
    with_passages,
)
from pipeline.data.contamination_index import ContaminationIndex
from pipeline.data.contamination_proof import is_exact, near_score
from pipeline.data.contamination_text import batch_of, folded, tokens_in
from pipeline.data.contamination_weight import heavy, weighs
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


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def talk(*turns: tuple[str, str], **more: Any) -> RowTexts:
    return row_texts({"id": "a", "messages": [turn(*one) for one in turns], **more})


def items(*rows: RowTexts) -> list[Item]:
    return [item_of_row("test", str(n), row.recognised) for n, row in enumerate(rows)]


def pairs(evaluated: list[Item], *rows: RowTexts | str) -> set[tuple[int, int]]:
    return {(hit.row, hit.item) for hit in ContaminationIndex.build(evaluated).find(rows)}


FIRST = "Compose an engaging travel blog post about a recent trip to the islands in the north."
SECOND = "Rewrite the previous answer so that every sentence begins with the letter A."
QUERIES = [
    "Why has my new card not arrived in the mail after two weeks?",
    "How can I top up my account with the watch on my arm today?",
    "Where do I see the exchange rate that was used for my transfer?",
]
OTHERS = [f"Something else entirely about moon phase {n} in winter" for n in range(5)]


def test_a_turn_of_a_test_conversation_is_known_by_itself() -> None:
    tested = talk(("user", FIRST), ("assistant", "A blog."), ("user", SECOND), ("assistant", "A."))
    rows = [
        talk(("user", FIRST), ("assistant", "Another blog.")),
        talk(("user", SECOND), ("assistant", "Any.")),
        talk(("user", FIRST), ("assistant", "x"), ("user", SECOND), ("assistant", "y")),
    ]
    hits = ContaminationIndex.build(items(tested)).find(rows)
    # One hit for each row, although the third is known by both turns and as a whole.
    assert [(hit.row, hit.item) for hit in hits] == [(0, 0), (1, 0), (2, 0)]


def test_a_light_turn_and_one_that_several_items_share_are_no_items() -> None:
    same = "Please go on with the story in the style that you have used so far."
    tested = [
        talk(("user", f"{query} Write it."), ("assistant", "x"), ("user", end), ("assistant", "y"))
        for query, end in zip(QUERIES, (same, same, "Thanks"), strict=True)
    ]
    row = talk(("user", "Begin with a dragon."), ("assistant", "x"), ("user", same))
    assert pairs(items(*tested), row, "Thanks", same) == set()


def test_one_instruction_over_many_documents_is_no_item() -> None:
    ask = "Please summarise the document that stands above in one sentence."
    tested = [talk(("system", f"A customer wrote: {text}"), ("user", ask)) for text in QUERIES]
    rows = [
        talk(("system", f"Harbour {n}: ship {n * n} came in."), ("user", ask)) for n in range(50)
    ]
    assert pairs(items(*tested), *rows) == set()
    # The same document and instruction are.
    assert pairs(items(*tested), rows[0], tested[2]) == {(1, 2)}


def test_the_system_text_is_the_item_where_the_user_says_nothing() -> None:
    tested = [talk(("system", query), ("user", "Answer.")) for query in QUERIES]
    assert pairs(items(*tested), *QUERIES) == {(0, 0), (1, 1), (2, 2)}


def test_a_system_text_does_not_hide_the_question() -> None:
    tested = [talk(("system", f"You are a bank. {PASSAGE}"), ("user", query)) for query in QUERIES]
    other = talk(("system", f"You are a bank. {PASSAGE}"), ("user", "What is the weather like?"))
    asked = talk(("system", "Be brief."), ("user", QUERIES[1]))
    assert pairs(items(*tested), other, asked, QUERIES[2]) == {(1, 1), (2, 2)}


def test_a_reply_with_a_class_is_not_known_by_the_turns_before_it() -> None:
    ask = ("user", "Please review the following long text now.")
    tested = talk(ask, ("assistant", "An entirely unrelated reply."), label="a")
    rows = [talk(ask, ("assistant", f"Reply {n} in words of its own."), label="b") for n in "xyz"]
    assert pairs(items(tested), *rows, tested) == {(3, 0)}


@pytest.mark.parametrize(
    "template",
    [
        "Classify the customer's query into one of the 77 intents of the bank.\n\nQuery: {}",
        "{}\n\nWhich of the seventy-seven intents of the bank is it? Answer with it only:",
        "问题是以下这个客户的提问，请你从七十七个类别里选出其中最合适的一个来回答我们，不要多说别的话：{}",
    ],
)
@pytest.mark.parametrize("beside", [OTHERS, []])
def test_a_template_around_test_rows_does_not_hide_them(template: str, beside: list[str]) -> None:
    tested = items(*(talk(("user", text)) for text in [*map(template.format, QUERIES), *beside]))
    rows = [f"As a helpful bank, tell the intent of this: {query}" for query in QUERIES]
    assert pairs(tested, *rows) == {(0, 0), (1, 1), (2, 2)}
    assert pairs(tested, *QUERIES) == {(0, 0), (1, 1), (2, 2)}
    # The template with other words is no copy.
    assert pairs(tested, template.format("Can a child have a card of its own?")) == set()


def test_questions_that_begin_alike_are_no_template() -> None:
    asked = [f"How do I {what}?" for what in ("close my account", "get a new card", "pay abroad")]
    rows = ["Tell me whether you close my account", "I want to get a new card today"]
    assert pairs(items(*(talk(("user", text)) for text in asked)), *rows) == set()


def test_hits_are_bounded_and_none_is_forgotten() -> None:
    text = "Where may I change my old passport and my identity card today?"
    hits = ContaminationIndex.build([Item("t", str(n), text) for n in range(100)]).find([text] * 60)
    assert len(hits) <= MOST_HITS * (60 + 100)
    assert {hit.row for hit in hits} == set(range(60))
    assert {hit.item for hit in hits} == set(range(100))
    assert sum(1 + hit.more for hit in hits) == 6000


def test_near_copies_of_everything_are_bounded_too() -> None:
    text = "{0} Where may I change my old passport and my identity card today, if I may ask, {0}"
    tested = [Item("t", str(n), text.format(n)) for n in range(60)]
    hits = ContaminationIndex.build(tested).find([text.format(n) for n in range(100, 180)])
    assert len(hits) <= MOST_HITS * (60 + 80)
    assert {hit.row for hit in hits} == set(range(80))
    assert {hit.item for hit in hits} == set(range(60))


def test_kept_hits_are_bounded_over_several_calls() -> None:
    kept = KeptHits()
    found = [
        hit
        for row in range(200)
        for hit in kept.keep(Hit(row, item, "exact", 1.0) for item in range(50))
    ]
    assert len(found) <= MOST_HITS * (200 + 50)
    assert {hit.row for hit in found} == set(range(200))
    assert sum(1 + hit.more for hit in found) == 200 * 50


@given(st.text())
def test_a_text_weighs_alone_what_it_weighs_among_others(text: str) -> None:
    assert weighs(text) == bool(heavy(tokens_in(batch_of([folded(text)])))[0])


def test_rows_in_the_template_of_the_test_rows_are_compared_without_it() -> None:
    template = "Classify the query of a customer into the intents of the bank. Query: {}"
    tested = [Item("t", str(n), template.format(query)) for n, query in enumerate(QUERIES)]
    rows = [template.format(query.replace("?", " now?")) for query in QUERIES]
    assert pairs(tested, *rows) == {(0, 0), (1, 1), (2, 2)}
    # However long it is, it makes nothing near.
    long = [Item("t", i.id, f"{PASSAGE * 9}\n{i.text}") for i in tested]
    assert pairs(long, f"{PASSAGE * 9}\n{template.format('Can a child have a card?')}") == set()
