"""Metrics against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as oracle

from eval import metrics
from eval.record import Prediction, TextLoss

LABELS = ["card", "card_arrival", "pin", "fee", "limit"]
NO_LABEL = "(none)"


def drawn(seed: int, items: int = 400, unparseable: float = 0.1) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(items):
        probability = rng.dirichlet(np.full(len(LABELS), 0.4))
        probability /= probability.sum()
        gold = LABELS[rng.choice(len(LABELS), p=[0.4, 0.3, 0.15, 0.1, 0.05])]
        label = None if rng.random() < unparseable else LABELS[int(probability.argmax())]
        scores = dict(zip(LABELS, np.log(probability).tolist(), strict=True))
        rows.append(Prediction(f"e{index}", gold, label, scores, None, 0.0, 5, 0))
    return rows


def golds(rows: list[Prediction]) -> list[str]:
    return [row.gold for row in rows]


def answers(rows: list[Prediction]) -> list[str]:
    return [row.label if row.label is not None else NO_LABEL for row in rows]


def table(rows: list[Prediction]) -> npt.NDArray[np.float64]:
    logs = np.array([[row.scores[label] for label in LABELS] for row in rows if row.scores])
    return np.asarray(np.exp(logs))


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_f1_and_matthews_are_scikit_learns(seed: int) -> None:
    rows = drawn(seed)
    gold, answer = golds(rows), answers(rows)
    found = metrics.label_figures(rows)
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(gold, answer))
    f1 = oracle.f1_score(gold, answer, labels=LABELS, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(f1)
    assert found["matthews"] == pytest.approx(oracle.matthews_corrcoef(gold, answer))


def test_per_class_table_is_scikit_learns() -> None:
    rows = drawn(4)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        golds(rows), answers(rows), labels=LABELS, zero_division=0
    )
    by_label = {row.label: row for row in metrics.per_class(rows)}
    for index, label in enumerate(LABELS):
        row = by_label[label]
        assert (row.precision, row.recall) == pytest.approx((precision[index], recall[index]))
        assert (row.f1, row.support) == pytest.approx((f1[index], support[index]))


def test_confusion_is_scikit_learns() -> None:
    rows = drawn(5)
    expected = oracle.confusion_matrix(golds(rows), answers(rows), labels=[*LABELS, NO_LABEL])
    found = metrics.confusion(rows)
    for i, gold in enumerate(LABELS):
        for j, label in enumerate([*LABELS, None]):
            assert found.get((gold, label), 0) == expected[i][j]


def test_log_loss_and_brier_are_scikit_learns() -> None:
    rows = drawn(6, unparseable=0.0)
    loss = oracle.log_loss(golds(rows), table(rows)[:, np.argsort(LABELS)], labels=sorted(LABELS))
    assert metrics.nll(rows) == pytest.approx(loss)
    brier = oracle.brier_score_loss(
        golds(rows), table(rows)[:, np.argsort(LABELS)], labels=sorted(LABELS), scale_by_half=False
    )
    assert metrics.brier(rows) == pytest.approx(brier)


def test_certain_and_wrong_answer_costs_what_its_logits_say_and_never_infinity() -> None:
    def of(wrong: float) -> list[Prediction]:
        return [Prediction("1", "b", "a", {"a": 0.0, "b": wrong}, None, 0.0, 1, 0)]

    # Scikit-learn's log loss takes probabilities and stops at 36 nats.
    assert metrics.nll(of(-200.0)) == 200.0
    assert metrics.nll(of(-math.inf)) == pytest.approx(708.4, abs=0.1)


def test_ece_of_two_hand_made_bins() -> None:
    # Confidence 0.9 and right 3 of 4 times; confidence 0.6 and right 1 of 2 times.
    rows = [
        Prediction(str(i), gold, "a", {"a": math.log(p), "b": math.log(1 - p)}, None, 0.0, 1, 0)
        for i, (gold, p) in enumerate(
            [("a", 0.9), ("a", 0.9), ("a", 0.9), ("b", 0.9), ("a", 0.6), ("b", 0.6)]
        )
    ]
    assert metrics.ece(rows) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.1)


def test_unparseable_is_wrong_and_counted_by_itself() -> None:
    rows = [
        Prediction("1", "a", "a", None, "a", 0.0, 1, 1),
        Prediction("2", "a", None, None, "?", 0.0, 1, 1),
    ]
    assert metrics.label_figures(rows)["accuracy"] == 0.5
    assert metrics.unparseable(rows) == metrics.label_figures(rows)["unparseable"] == 0.5
    assert metrics.ece(rows) is metrics.nll(rows) is metrics.brier(rows) is None


def test_chance_is_the_commonest_class() -> None:
    assert metrics.chance(["a", "b", "a", "c"]) == 0.5


def test_matthews_of_one_answer_for_all_is_zero() -> None:
    rows = [Prediction(str(i), g, "a", None, "a", 0.0, 1, 1) for i, g in enumerate("aab")]
    assert metrics.label_figures(rows)["matthews"] == 0.0


def test_token_loss_weighs_documents_by_their_tokens() -> None:
    losses = [TextLoss("a", 2.0, 1, 4), TextLoss("b", 3.0, 9, 46)]
    assert metrics.token_loss(losses) == pytest.approx(0.5)
    assert metrics.bits_per_byte(losses) == pytest.approx(5 / math.log(2) / 50)


def test_bits_per_byte_is_none_where_bytes_are_unknown() -> None:
    assert metrics.bits_per_byte([TextLoss("a", 2.0, 1, 4), TextLoss("b", 2.0, 1, 0)]) is None
