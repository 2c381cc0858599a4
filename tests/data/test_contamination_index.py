"""The index against brute force, on made-up texts and on real sets with known copies."""

from __future__ import annotations

import json
import pickle
import random
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import contamination_index, contamination_items
from pipeline.data.contamination import Hit, Item, RowTexts, trains_on_test
from pipeline.data.contamination_index import ContaminationIndex
from pipeline.data.shingles import letters_and_digits as normalised

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


@cache
def rows_of(name: str) -> list[dict[str, Any]]:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"needs {name} beside the checkout")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def texts_of(name: str) -> list[str]:
    return [row["text"] for row in rows_of(name)]


def items_of(texts: Sequence[str]) -> list[Item]:
    return [Item("test", str(index), text) for index, text in enumerate(texts)]


def found(items: Sequence[Item], rows: Sequence[str | RowTexts]) -> list[Hit]:
    return ContaminationIndex.build(items).find(rows)


def grams(text: str) -> set[str]:
    """Character 5-grams in the plainest words."""
    plain = re.sub(r"\W+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return {plain[i : i + 5] for i in range(len(plain) - 4)}


def near_by_brute_force(items: Sequence[str], rows: Sequence[str]) -> dict[tuple[int, int], float]:
    theirs = [grams(text) for text in items]
    pairs = {}
    for row, ours in enumerate(map(grams, rows)):
        for item, other in enumerate(theirs):
            if 5 * min(len(ours), len(other)) < 4 * max(len(ours), len(other)):
                continue
            both = len(ours & other)
            union = len(ours) + len(other) - both
            if union and 5 * both >= 4 * union:
                pairs[row, item] = both / union
    return pairs


def edited(text: str, rng: random.Random) -> str:
    letters = list(text)
    for _ in range(rng.randint(0, 3)):
        place = rng.randrange(len(letters))
        letters[place] = rng.choice(["", "x", letters[place] * 2, " "])
    return "".join(letters)


def test_near_pairs_are_those_of_all_pairs() -> None:
    rng = random.Random(3)
    items = texts_of("banking77/test.jsonl")[::12] + texts_of("thucnews_titles/test.jsonl")[::60]
    rows = [edited(text, rng) for text in items] + texts_of("banking77/train.jsonl")[::20]
    expected = near_by_brute_force(items, rows)
    hits = {(hit.row, hit.item): hit for hit in found(items_of(items), rows)}
    assert len(expected) > 150
    for pair, score in expected.items():
        hit = hits.pop(pair)
        assert hit.kind == "exact" or (hit.kind, hit.score) == ("near", pytest.approx(score))
    for (row, item), hit in hits.items():
        assert hit.kind == "contained" or normalised(rows[row]) == normalised(items[item])


def test_long_near_copies_are_those_of_all_pairs() -> None:
    rng = random.Random(4)
    words = [f"w{index}" for index in range(400)]
    # Texts that share most of their words: their rarest grams tell them apart.
    texts = [" ".join(rng.sample(words, 300)) for _ in range(12)]
    near = [" ".join(w for w in text.split() if rng.random() > cut) for text in texts
            for cut in (0.02, 0.05, 0.2)]  # fmt: skip
    expected = near_by_brute_force(texts, near)
    assert 12 <= len(expected) < 36
    hits = {(hit.row, hit.item): hit.score for hit in found(items_of(texts), near)
            if hit.kind == "near"}  # fmt: skip
    assert hits == pytest.approx(expected)


WORDS = st.sampled_from(["alpha", "beta", "gamma", "delta"])


# Two items at most: what more of them have in common at an end is a template, and left out.
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(WORDS, min_size=4, max_size=13), min_size=1, max_size=2),
    st.lists(st.lists(WORDS, max_size=40), min_size=1, max_size=4),
)
def test_short_items_are_contained_where_their_words_are_a_run(
    items: list[list[str]], rows: list[list[str]]
) -> None:
    hits = found(items_of([" ".join(i) for i in items]), [", ".join(r) + "." for r in rows])
    runs = {
        (r, i)
        for r, row in enumerate(rows)
        for i, item in enumerate(items)
        if f" {' '.join(item)} " in f" {' '.join(row)} "
    }
    assert {(hit.row, hit.item) for hit in hits if hit.kind == "contained"} <= runs
    assert runs <= {(hit.row, hit.item) for hit in hits}


HAN = st.sampled_from("天地玄黄宇宙洪")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(HAN, min_size=8, max_size=13), min_size=1, max_size=2),
    st.lists(st.text(HAN, max_size=60), min_size=1, max_size=3),
)
def test_chinese_items_are_contained_where_they_are_a_substring(
    items: list[str], rows: list[str]
) -> None:
    hits = found(items_of(items), rows)
    runs = {(r, i) for r, row in enumerate(rows) for i, item in enumerate(items) if item in row}
    assert {(hit.row, hit.item) for hit in hits if hit.kind == "contained"} <= runs
    assert runs <= {(hit.row, hit.item) for hit in hits}


def test_long_items_are_contained_by_their_share_of_13_grams() -> None:
    rng = random.Random(5)
    words = [f"w{index}" for index in range(60)]
    items = [[rng.choice(words) for _ in range(rng.randint(14, 80))] for _ in range(40)]
    rows = []
    for item in items:
        changed = [w if rng.random() > 0.01 else "changed" for w in item]
        rows.append(rng.choices(words, k=150) + changed + rng.choices(words, k=150))

    def runs(tokens: list[str]) -> set[tuple[str, ...]]:
        return {tuple(tokens[i : i + 13]) for i in range(len(tokens) - 12)}

    expected = {}
    for r, row in enumerate(rows):
        for i, item in enumerate(items):
            share = len(runs(item) & runs(row)) / len(runs(item))
            if share >= 0.8:
                expected[r, i] = share
    assert 10 < len(expected) < 40
    hits = found(items_of([" ".join(item) for item in items]), [" ".join(row) for row in rows])
    assert {(hit.row, hit.item): hit.score for hit in hits} == pytest.approx(expected)


def test_banking77_has_29_exact_copies_and_151_near_ones() -> None:
    train, test = rows_of("banking77/train.jsonl"), rows_of("banking77/test.jsonl")
    texts = [row["text"] for row in train]
    hits = found(items_of([row["text"] for row in test]), texts)
    exact = {hit.item for hit in hits if hit.kind == "exact"}
    near = {hit.item for hit in hits if hit.kind == "near"}
    assert len(exact) == 29
    # Four of the 29 differ in their blanks: equal after normalisation, yet below Jaccard 0.8.
    also_near = {
        hit.item for hit in hits
        if hit.kind == "exact" and near_by_brute_force([test[hit.item]["text"]], [texts[hit.row]])
    }  # fmt: skip
    assert len(exact - also_near - near) == 4
    assert len(near | also_near) == 151
    assert len(near | exact) == 155
    conflicts = {h.item for h in hits if h.kind == "near"
                 and train[h.row]["label"] != test[h.item]["label"]}  # fmt: skip
    assert len(conflicts) == 10


def test_thucnews_has_31_exact_copies_and_13_more_near_ones() -> None:
    train, test = texts_of("thucnews_titles/train.jsonl"), texts_of("thucnews_titles/test.jsonl")
    hits = found(items_of(test), train)
    exact = {hit.item for hit in hits if hit.kind == "exact"}
    near = {hit.item for hit in hits if hit.kind == "near"} - exact
    contained = {hit.item for hit in hits if hit.kind == "contained"} - exact - near
    assert len(set(test) & set(train)) == 30
    assert (len(exact), len(near), len(contained)) == (31, 13, 2)


@pytest.mark.parametrize("apart", [True, False])
def test_tatqa_split_by_document_is_clean(apart: bool) -> None:
    test, train = rows_of("tatqa_finance/qa_test.jsonl"), rows_of("tatqa_finance/qa_train.jsonl")
    if apart:
        items = [Item("t", str(i), r["question"], r["context"]) for i, r in enumerate(test[:400])]
    else:
        items = items_of([f"{r['context']}\n\n{r['question']}" for r in test[:400]])
    rows = [f"{r['context']}\n\n{r['question']}" for r in train[:400]]
    assert found(items, rows) == []


def test_tatqa_split_by_question_shares_passages_and_few_questions() -> None:
    test = rows_of("tatqa_finance/qa_test.jsonl")[:240]
    items = [Item("t", str(i), r["question"], r["context"]) for i, r in enumerate(test[::2])]
    rows = [f"{r['context']}\n\n{r['question']}" for r in test[1::2]]
    assert len({row["context"] for row in test[::2]} & {row["context"] for row in test[1::2]}) > 30
    hits = found(items, rows)
    # What is left are questions about another year, and such.
    assert len({hit.row for hit in hits}) < 0.3 * len(rows)
    for hit in hits:
        assert near_by_brute_force([items[hit.item].whole], [rows[hit.row]])


def test_documents_of_another_kind_do_not_contain_questions_of_a_bank() -> None:
    rows = texts_of("c4_wiki_demo/c4.jsonl") + texts_of("wikitext2_part/train.jsonl")[:20]
    assert found(items_of(texts_of("banking77/test.jsonl")), rows) == []


def test_a_recipe_that_trains_on_its_test_split_is_known() -> None:
    texts = texts_of("banking77/test.jsonl")[:500]
    hits = found(items_of(texts), [f"{text}!" for text in texts])
    assert trains_on_test(len({hit.item for hit in hits if hit.kind == "exact"}), len(texts))


def sample() -> tuple[list[Item], list[str]]:
    rng = random.Random(1)
    words = [f"word{index}" for index in range(50)]
    texts = [" ".join(rng.choices(words, k=rng.randint(3, 30))) for _ in range(60)]
    rows = [edited(text, rng) for text in texts] + [
        " ".join([*rng.choices(words, k=20), text, *rng.choices(words, k=20)]) for text in texts
    ]
    return items_of(texts), rows


def test_hits_do_not_depend_on_chunks() -> None:
    items, rows = sample()
    index = ContaminationIndex.build(items)
    whole = index.find(rows)
    assert {hit.kind for hit in whole} == {"exact", "near", "contained"}
    parts = [
        Hit(hit.row + start, hit.item, hit.kind, hit.score)
        for start in range(0, len(rows), 7)
        for hit in index.find(rows[start : start + 7])
    ]
    assert parts == whole


def test_an_index_survives_pickling_and_its_file(tmp_path: Path) -> None:
    items, rows = sample()
    index = ContaminationIndex.build(items)
    index.save(tmp_path / "a")
    ContaminationIndex.build(iter(items)).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = ContaminationIndex.load(tmp_path / "a")
    assert len(loaded) == len(items)
    assert [loaded.item(place) for place in range(len(items))] == items
    for other in (loaded, pickle.loads(pickle.dumps(index)), pickle.loads(pickle.dumps(loaded))):  # noqa: S301
        assert other.find(rows) == index.find(rows)


def test_long_rows_and_many_items_are_worked_off_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    items, rows = sample()
    expected = found(items, [*rows, " ".join(rows)])
    for module in (contamination_index, contamination_items):
        monkeypatch.setattr(module, "MOST_CHARACTERS", 300)
    monkeypatch.setattr(contamination_index, "_OVERLAP", 200)
    assert found(items, [*rows, " ".join(rows)]) == expected
    assert sum(hit.row == len(rows) for hit in expected) > 40


def test_no_items_and_no_rows_find_nothing(tmp_path: Path) -> None:
    empty = ContaminationIndex.build([])
    assert empty.find(["any text at all"]) == []
    empty.save(tmp_path / "empty")
    assert ContaminationIndex.load(tmp_path / "empty").find(["any text"]) == []
    assert ContaminationIndex.build(items_of(["a text"])).find([]) == []


def test_odd_texts_stop_nothing() -> None:
    odd = ["", " ", "\ud800 half a pair of surrogates", "\x00" * 9, "e\u0301" * 50, "\u200d\ufe0f",
           "_" * 20, "a" * 5000, "\U0001f600" * 8, "\u0e01" * 8, "हिन्दी में लिखा"]  # fmt: skip
    hits = found(items_of(odd), odd)
    known = {hit.row for hit in hits if hit.row == hit.item}
    assert known == {i for i, text in enumerate(odd) if normalised(text) or grams(text)}


def test_repeated_items_are_all_found() -> None:
    items = items_of(["Where is my new card?"] * 3)
    assert [(hit.item, hit.kind) for hit in found(items, ["where is my new card"])] == [
        (0, "exact"), (1, "exact"), (2, "exact"),
    ]  # fmt: skip
