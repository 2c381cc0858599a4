"""The two-sample test says 0.5 where nothing can be told apart, and 1 where everything can."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from eval.statistics import mean_interval
from eval.text.two_sample import auroc, two_sample

WORDS = [f"w{i}" for i in range(40)]


def drawn(rng: np.random.Generator, texts: int) -> list[str]:
    return [" ".join(rng.choice(WORDS, size=8)) for _ in range(texts)]


def test_texts_of_one_source_cannot_be_told_apart() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        found = two_sample(drawn(rng, 40), drawn(rng, 40))
        held += found["accuracy"]["low"] <= 0.5 <= found["accuracy"]["high"]
    # 60 draws of 95 % hold 52 times or more in 99.6 % of all such runs.
    assert held >= 52


def test_the_interval_of_the_accuracy_holds_a_half_in_93_to_97_of_100_draws() -> None:
    # Of one source, right answers of n held-out texts are Binomial(n, 1/2): counted, not drawn.
    for texts in (40, 100, 400):
        holds = 0.0
        for right in range(texts + 1):
            interval = mean_interval([[1.0] * right + [0.0] * (texts - right)])
            holds += binom.pmf(right, texts, 0.5) * (interval.low <= 0.5 <= interval.high)
        assert 0.93 <= holds <= 0.97


def test_texts_without_a_shared_word_are_told_apart_every_time() -> None:
    rng = np.random.default_rng(1)
    other = [text.replace("w", "v") for text in drawn(rng, 60)]
    found = two_sample(drawn(rng, 60), other)
    assert found["accuracy"]["estimate"] == found["auroc"]["estimate"] == 1
    assert found["accuracy"]["low"] < 1
    assert found["auroc"]["low"] < 1
    assert found["held_out"] == 60
    assert all("v" in word for word in found["telling"]["generated"])
    assert all("w" in word for word in found["telling"]["real"])


def test_copies_of_the_real_texts_are_no_better_than_a_guess() -> None:
    # Each question's two texts fall into the same half: a copy cannot be known from training.
    real = drawn(np.random.default_rng(2), 60)
    found = two_sample(real, real)
    assert found["accuracy"]["estimate"] == found["auroc"]["estimate"] == 0.5


def test_the_area_is_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    positive, negative = rng.integers(2, 9, 70) / 1.0, rng.integers(0, 7, 50) / 1.0
    truth = np.repeat([1, 0], [70, 50])
    wanted = roc_auc_score(truth, np.concatenate([positive, negative]))
    assert auroc(positive, negative).estimate == pytest.approx(wanted)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_interval_of_the_area_covers_the_truth_in_93_to_97_of_100_draws(shift: float) -> None:
    # Two normal sources apart by `shift` have the area Phi(shift / sqrt 2).
    truth, rng = NormalDist().cdf(shift / math.sqrt(2)), np.random.default_rng(4)
    held = 0
    for _ in range(1000):
        interval = auroc(rng.normal(shift, 1, 80), rng.normal(0, 1, 80))
        held += interval.low <= truth <= interval.high
    assert 930 <= held <= 970


def test_too_few_items_or_no_words_are_told() -> None:
    assert two_sample(["a"] * 5, ["b"] * 5) == {"why": "5 items; 20 are needed"}
    assert two_sample([""] * 30, [""] * 30) == {"why": "the texts hold no word twice"}
