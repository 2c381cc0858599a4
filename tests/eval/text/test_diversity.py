"""Diversity: closed forms on small texts, and NLTK's BLEU as a second opinion."""

from __future__ import annotations

import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from eval.text.diversity import distinct, diversity, longest_loop, repeated, self_bleu
from pipeline.core.errors import DataError


def test_distinct_n_is_different_n_grams_over_all_n_grams() -> None:
    texts = [["a", "b", "a", "b"], ["a", "b"]]
    assert distinct(texts, 1) == 2 / 6
    assert distinct(texts, 2) == 2 / 4  # ab, ba, ab, ab
    assert distinct(texts, 3) == 1
    assert distinct(texts, 5) == 0


def test_repetition_is_the_share_of_n_grams_that_stood_before() -> None:
    assert repeated(["a", "b", "c", "d", "e", "f", "g"], 4) == 0
    assert repeated(["a"] * 7, 4) == 3 / 4
    assert repeated(["a"], 4) == 0


@pytest.mark.parametrize(
    ("text", "words", "unit"),
    [
        ("a b c d", 0, 0),
        ("a a", 2, 1),
        ("x a b a b a y", 5, 2),
        ("so it is a b c a b c a b c done", 9, 3),
        ("a a a b c b c b c b", 7, 2),
    ],
)
def test_the_longest_loop_is_found_with_its_unit(text: str, words: int, unit: int) -> None:
    loop = longest_loop(text.split())
    assert (loop.words, loop.unit) == (words, unit)


def test_a_text_is_stuck_with_three_times_and_ten_words() -> None:
    assert longest_loop(("the card is lost " * 3).split()).stuck
    assert not longest_loop(["very", "very", "very"]).stuck
    assert not longest_loop(("one two three four five six " * 2).split()).stuck


def test_self_bleu_of_one_text_said_again_is_1_and_of_texts_without_a_shared_word_is_0() -> None:
    same = self_bleu(["the card is lost today"] * 5)
    apart = self_bleu([" ".join(f"{w}{i}" for w in ("ab", "cd", "ef", "gh")) for i in range(5)])
    assert same is not None
    assert apart is not None
    assert same["estimate"] == pytest.approx(1)
    assert apart["estimate"] == 0
    assert self_bleu(["alone", " "]) is None


def test_self_bleu_is_the_mean_of_nltks_bleu_against_all_others() -> None:
    texts = [
        "the new card was sent on monday by mail",
        "the new card was lost on monday by mail",
        "my new card was sent to a wrong street on monday",
        "a card was lost on a street by the bank",
    ]
    cut = [text.split() for text in texts]
    smooth = SmoothingFunction().method3  # sacrebleu's "exp" (Chen and Cherry 2014)
    scores = [
        sentence_bleu(cut[:i] + cut[i + 1 :], cut[i], smoothing_function=smooth)
        for i in range(len(cut))
    ]
    found = self_bleu(texts)
    assert found is not None
    assert found["estimate"] == pytest.approx(sum(scores) / len(scores), rel=1e-6)
    assert "tok:13a" in found["signature"]


def test_the_sample_of_self_bleu_is_stated_and_seeded() -> None:
    texts = [f"the card number {i % 7} was sent to street {i}" for i in range(40)]
    one, two, other = (self_bleu(texts, seed=seed, sample=10) for seed in (0, 0, 1))
    assert one == two
    assert one is not None
    assert other is not None
    assert (one["sample"], one["seed"]) == (10, 0)
    assert one["estimate"] != other["estimate"]


def test_all_measures_stand_together_with_those_of_the_references() -> None:
    found = diversity(["a a a a a a a a a a", "b c", ""], ["x y z", "p q r", "s t u"])
    assert found["stuck"] == pytest.approx(1 / 3)
    assert found["longest_loop"] == {"words": 10, "unit": 1, "times": 10.0}
    assert found["length"]["longest"] == 10
    assert found["length"]["empty"] == pytest.approx(1 / 3)
    assert found["references"]["distinct"]["1"] == 1
    assert found["references"]["references"] is None


def test_chinese_is_counted_by_characters() -> None:
    assert diversity(["今天天"])["distinct"]["1"] == pytest.approx(2 / 3)


def test_no_texts_are_refused() -> None:
    with pytest.raises(DataError, match="no texts"):
        diversity([])
