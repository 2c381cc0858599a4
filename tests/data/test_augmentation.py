"""What is asked for synthetic rows, and which answers are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data.augmentation import (
    Ask,
    NotAsked,
    from_kept_rows,
    new_row,
    paraphrases,
    require_fillable,
    samples,
)
from pipeline.data.candidates import Sieve, another_language, names, taken_out
from pipeline.data.executor import InProcess
from pipeline.data.gathering import SourcePlan, gather
from pipeline.data.ledger import Account, Ledger
from pipeline.data.own_text import own_text
from pipeline.data.rows import Placed, Refused, Row
from pipeline.data.shelf import Shelf

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
SETTINGS = {"per_row": 2, "per_label": 3, "examples": 2, "max_new_tokens": 64, "seed": 7}
PLAIN: list[dict[str, Any]] = [{}]
CARDS: list[Row] = [
    {"text": "My card has not come yet", "label": "card_arrival"},
    {"text": "Where is the card that I ordered?", "label": "card_arrival"},
    {"text": "Is there still no card for me?", "label": "card_arrival"},
    {"text": "I want my 20 pounds back", "label": "refund"},
]


@dataclass(frozen=True)
class Given:
    """A chunk of rows that are there."""

    given: tuple[Row, ...]

    def rows(self) -> Iterator[Placed | Refused]:
        """Each with its number."""
        for number, row in enumerate(self.given):
            yield Placed(f"given:{number}", row)


def shelf_of(
    folder: Path, rows: Sequence[Row], form: str = "", prompt: str | None = None, size: int = 3
) -> Shelf:
    """A shelf as `prepare` fills it, in batches of ``size``."""
    folder.mkdir(exist_ok=True)
    form = form or ("text" if any("label" not in row for row in rows) else "classification")
    account = Account("train", Ledger(folder / "q"), Ledger(folder / "d"))
    chunks = [Given(tuple(rows[start : start + size])) for start in range(0, len(rows), size)]
    plan = SourcePlan("data.train", form, {}, prompt)
    try:
        return gather([(plan, chunks)], folder / "rows.arrow", InProcess(), account, 0)
    finally:
        account.quarantine.close()
        account.dropped.close()


def all_of(shelf: Shelf) -> Any:
    return np.ones(len(shelf), bool)


def asks_of(found: Any) -> list[Ask]:
    return [ask for ask in found if isinstance(ask, Ask)]


# ---- what is asked


def test_each_row_is_asked_per_row_times_in_the_order_of_the_shelf(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, CARDS)
    asks = asks_of(paraphrases(shelf, all_of(shelf), SETTINGS, PLAIN))
    assert [a.id for a in asks] == [f"synthetic/{row}/{n}" for row in range(4) for n in range(2)]
    assert len({a.seed for a in asks}) == len(asks)
    assert all(0 <= a.seed < 2**31 for a in asks)
    assert [a.made_from for a in asks[::2]] == [((0, row),) for row in range(4)]
    assert all(CARDS[i // 2]["text"] in a.prompt for i, a in enumerate(asks))


def test_a_row_that_is_not_live_is_not_asked_and_changes_no_other(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, CARDS)
    live = all_of(shelf)
    live[[0, 3]] = False
    every = {a.id: a for a in asks_of(paraphrases(shelf, all_of(shelf), SETTINGS, PLAIN))}
    some = asks_of(paraphrases(shelf, live, SETTINGS, PLAIN))
    assert [a.id.split("/")[1] for a in some] == ["1", "1", "2", "2"]
    assert all(every[a.id] == a for a in some)


def test_the_prompt_names_the_label_so_that_the_text_stays_with_it(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path / "a", CARDS)
    bare = shelf_of(tmp_path / "b", [{"text": "Nothing is known of this one"}])
    assert "'card_arrival'" in asks_of(paraphrases(shelf, all_of(shelf), SETTINGS, PLAIN))[0].prompt
    assert "filed" not in asks_of(paraphrases(bare, all_of(bare), SETTINGS, PLAIN))[0].prompt


@pytest.mark.parametrize(
    ("row", "form", "prompt", "reason"),
    [
        ({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Hi"}]},
         "messages", None, None),
        ({"text": "word " * 65}, "text", None, "longer than max_new_tokens"),
        ({"text": "x", "a": "b"}, "text", "Q: {a}\nA:", "not once in the prompt"),
        ({"text": "to"}, "text", "{text} go {text}", "not once in the prompt"),
        ({"text": "to"}, "text", "Which? {text}", None),
    ],
)  # fmt: skip
def test_no_call_is_paid_for_where_nothing_can_come(
    tmp_path: Path, row: Row, form: str, prompt: str | None, reason: str | None
) -> None:
    shelf = shelf_of(tmp_path, [row], form, prompt)
    (found, *_) = paraphrases(shelf, all_of(shelf), SETTINGS, [{"prompt": prompt}])
    assert isinstance(found, Ask) is (reason is None)
    if reason is not None:
        assert isinstance(found, NotAsked)
        assert reason in found.reason


@pytest.mark.parametrize(
    ("row", "form", "own", "kept"),
    [
        ({"context": "It sold 5.\n\nIt paid 4.", "question": "What were sales?", "answer": "5"},
         "question_answer", "What were sales?", "It sold 5.\n\nIt paid 4.\n\nNEW"),
        ({"question": "Which is red?", "choices": ["a rose", "the sea"], "answer": 0},
         "question_answer", "Which is red?", "NEW\nA. a rose\nB. the sea"),
        ({"instruction": "Translate it", "input": "one\n\ntwo", "output": "eins zwei"},
         "alpaca", "Translate it", "NEW\n\none\n\ntwo"),
    ],
)  # fmt: skip
def test_what_an_answer_rests_on_is_not_rewritten(
    tmp_path: Path, row: Row, form: str, own: str, kept: str
) -> None:
    shelf = shelf_of(tmp_path, [row], form)
    ask = asks_of(paraphrases(shelf, all_of(shelf), SETTINGS, [{"format": form}]))[0]
    assert ask.models == (own,)
    before, after = ask.own.row["messages"], new_row(ask, "NEW", "paraphrase")["messages"]
    assert after[0]["content"] == kept
    assert after[1:] == before[1:]


def test_samples_show_seeded_rows_of_their_label_only(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, CARDS)
    live = all_of(shelf)
    live[1] = False
    asks = asks_of(samples(shelf, live, SETTINGS))
    assert [a.id for a in asks] == [
        f"synthetic/{label}/{n}" for label in ("card_arrival", "refund") for n in range(3)
    ]
    for ask in asks:
        labels = {CARDS[ordinal]["label"] for _, ordinal in ask.made_from}
        assert labels == {ask.label}
        assert (0, 1) not in ask.made_from
        shown = [CARDS[ordinal]["text"] for _, ordinal in ask.made_from]
        assert list(ask.models) == shown
        assert all(text in ask.prompt for text in shown)
    assert asks == asks_of(samples(shelf, live, SETTINGS))
    assert asks != asks_of(samples(shelf, live, {**SETTINGS, "seed": 8}))


def test_samples_without_examples_show_nothing_and_come_from_no_row(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, CARDS)
    asks = asks_of(samples(shelf, all_of(shelf), {**SETTINGS, "examples": 0}))
    assert all(not a.models and not a.made_from and "<text>" not in a.prompt for a in asks)


def test_samples_need_one_label_a_row(tmp_path: Path) -> None:
    bare = shelf_of(tmp_path / "a", [{"text": "one"}])
    with pytest.raises(DataError, match="no training row has one; use kind: paraphrase"):
        list(samples(bare, all_of(bare), SETTINGS))
    several = shelf_of(tmp_path / "b", [{"text": "one", "labels": ["a", "b"]}], "classification")
    with pytest.raises(DataError, match="have several; use kind: paraphrase"):
        list(samples(several, all_of(several), SETTINGS))


def test_a_prompt_that_holds_the_text_twice_is_not_sampled(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, CARDS, prompt="{text} or {text}")
    found = list(samples(shelf, all_of(shelf), SETTINGS))
    assert len(found) == 6
    assert not asks_of(found)


def test_a_prompt_with_further_fields_cannot_be_sampled() -> None:
    require_fillable([{"prompt": "Which class? {text}"}, {"prompt": None}, {}])
    with pytest.raises(DataError, match=r"\{context\}.*use kind: paraphrase"):
        require_fillable([{"prompt": "{context}\n{text}"}])


# ---- the rows that come of it


@pytest.mark.parametrize(
    "row",
    [
        {"text": "old", "label": "a"},
        {"text": "Which? old", "source_text": "old", "label": "a"},
        {
            "messages": [
                {"role": "system", "content": "old rules"},
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "yes"},
                {"role": "user", "content": "old"},
                {"role": "assistant", "content": "old answer"},
            ]
        },
        {
            "messages": [{"role": "user", "content": "Q: old"}],
            "source_text": "old",
            "chosen": {"role": "assistant", "content": "x"},
            "rejected": {"role": "assistant", "content": "y"},
        },
    ],
)
def test_only_the_users_own_text_changes(row: Row) -> None:
    before = json.dumps(row)
    made = own_text(row).replaced("new")
    assert own_text(row).text == "old"
    assert own_text(made).text == "new"
    assert json.dumps(row) == before
    assert own_text(made).replaced("old") == row


def test_the_new_row_is_marked_and_says_where_it_comes_from(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, CARDS)
    ask = asks_of(samples(shelf, all_of(shelf), SETTINGS))[0]
    row = new_row(ask, "Has it been posted?", "sample")
    assert row == {
        "text": "Has it been posted?", "label": "card_arrival", "id": "synthetic/card_arrival/0",
        "synthetic": "sample", "made_from": [list(place) for place in ask.made_from],
    }  # fmt: skip


def test_a_sampled_turn_stands_behind_the_system_text_alone(tmp_path: Path) -> None:
    talk = [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hello there"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "No card came"},
    ]
    row = {"messages": talk, "label": "card_arrival"}
    shelf = shelf_of(tmp_path, [row], "classification")
    ask = asks_of(samples(shelf, all_of(shelf), SETTINGS))[0]
    made = new_row(ask, "It was not in the post", "sample")["messages"]
    assert made == [talk[0], {"role": "user", "content": "It was not in the post"}]


def test_rows_made_from_a_row_that_is_not_kept_are_told(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, CARDS)
    lines = [{"made_from": found} for found in ([[0, 0]], [[0, 1]], [[0, 1], [0, 2]], [], [[1, 1]])]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    kept = np.array([True, True, False, True])
    assert from_kept_rows(path, shelf, kept).tolist() == [True, True, False, True, False]


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
