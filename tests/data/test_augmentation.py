"""What is asked for synthetic rows, and which answers are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

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
from pipeline.data.own_text import own_text
from pipeline.data.rows import Row
from tests.data.augmentation_case import CARDS, PLAIN, SETTINGS, all_of, asks_of, shelf_of

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
