"""What is counted, repeated and inferred: against scikit-learn, plain search and closed forms."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from eval.risks.membership import found_at, told_apart, with_interval
from eval.risks.privacy import overlaps, personal_lines


def test_auroc_is_that_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.integers(0, 20, 300) / 10, rng.integers(3, 25, 200) / 10
    truth = [1] * 300 + [0] * 200
    expected = roc_auc_score(truth, -np.concatenate([members, others]))
    assert told_apart(members, others) == pytest.approx(expected, abs=1e-12)


def test_members_found_at_1_percent_are_those_of_the_roc_curve() -> None:
    rng = np.random.default_rng(1)
    members, others = rng.normal(0, 1, 400), rng.normal(1.5, 1, 500)
    fpr, tpr, _ = roc_curve([1] * 400 + [0] * 500, -np.concatenate([members, others]))
    assert found_at(members, others) == pytest.approx(tpr[fpr <= 0.01].max())


def test_1_percent_of_few_rows_is_no_row() -> None:
    with pytest.raises(ValueError, match="1% of 99 rows is less than one row"):
        found_at([0.0], [1.0] * 99)
    assert found_at([0.0], [1.0] * 100) == 1.0


def test_the_interval_of_auroc_holds_the_closed_form_of_two_normals() -> None:
    """AUROC of N(0, 1) below N(d, 1) is Phi(d / sqrt 2); 95 % of 60 intervals, give or take."""
    rng = np.random.default_rng(2)
    truth, held = float(norm.cdf(0.7 / np.sqrt(2))), 0
    for draw in range(60):
        found = with_interval("auroc", rng.normal(0, 1, 60), rng.normal(0.7, 1, 60), draw)
        held += found.low <= truth <= found.high
    assert held >= 53


def test_overlaps_are_those_of_a_plain_search() -> None:
    rng = random.Random(0)
    rows = [np.array([rng.randrange(5) for _ in range(80)], np.int32) for _ in range(20)]
    samples = [[rng.randrange(5) for _ in range(30)] for _ in range(20)]
    for number in range(0, 20, 2):
        start = rng.randrange(60)
        samples[number][7:17] = rows[number][start : start + 10].tolist()
    joined = [" ".join(map(str, row.tolist())) + " " for row in rows]
    expected = [
        any(" ".join(map(str, s[i : i + 10])) + " " in row for i in range(21) for row in joined)
        for s in samples
    ]
    assert overlaps(samples, rows, gram=10) == expected
    assert 10 <= sum(expected) < 20


def test_a_stretch_one_token_short_is_no_overlap_and_rows_do_not_join() -> None:
    row = np.arange(50, dtype=np.int32)
    assert overlaps([list(range(50))], [row]) == [True]
    assert overlaps([[*range(49), 7]], [row]) == [False]
    assert overlaps([list(range(50))], [row[:25], row[25:]]) == [False]


def test_personal_data_is_counted_by_row_and_kind() -> None:
    texts = ["write to ann@example.com or bob@example.com", "nothing here", "card 4111111111111111"]
    (line,) = personal_lines(texts)
    assert line.value == pytest.approx(2 / 3)
    assert line.shown.startswith("2 of 3 rows")
    assert "EMAIL_ADDRESS: 1" in line.shown
    assert "CREDIT_CARD: 1" in line.shown
    assert line.how is not None
    assert line.how.startswith("every row, by")
    assert (personal_lines(texts, 3)[0].how or "").startswith("one row in 3, by")
    assert personal_lines([])[0].measured is False
