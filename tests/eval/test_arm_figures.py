"""The table of ways: figures against scikit-learn, costs by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as oracle
from ways_case import LABELS, answers, asked, rights

from eval.arm_figures import arm_rows
from eval.costs import Cost
from eval.record import Prediction
from eval.results import ModelResult
from eval.scored import normalised
from eval.ways import ways_of


def scored_answers(seed: int, items: int, heat: float = 1.0, odd: int = 0) -> list[Prediction]:
    """Labels drawn from the probabilities at temperature ``heat``; the first are of no label."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (items, 4))
    share = np.exp(normalised(logits / heat))
    golds = (share.cumsum(axis=1) < rng.random((items, 1))).sum(axis=1).clip(max=3)
    return [
        Prediction(
            f"i{index:05d}", "other" if index < odd else LABELS[golds[index]],
            LABELS[int(row.argmax())], dict(zip(LABELS, row.tolist(), strict=True)), None,
            0.001 * (index + 1), 10 + index % 3, 0,
        )
        for index, row in enumerate(normalised(logits))
    ]  # fmt: skip


def classifier(**changes: object) -> ModelResult:
    one = ModelResult(
        "demo", "L2", "classifier", "model", 0,
        predictions={"test": scored_answers(1, 1000, 2.0)},
        held_out={"validation": scored_answers(2, 800, 2.0)},
    )  # fmt: skip
    return replace(one, **changes)  # type: ignore[arg-type]


def test_figures_of_a_row_are_scikit_learns() -> None:
    (row,) = arm_rows(ways_of([classifier()], "test"), 15, (0.9,))
    answers = scored_answers(1, 1000, 2.0)
    gold, label = [p.gold for p in answers], [p.label for p in answers]
    assert row["accuracy"]["estimate"] == pytest.approx(oracle.accuracy_score(gold, label))
    assert row["macro_f1"] == pytest.approx(oracle.f1_score(gold, label, average="macro"))
    assert row["matthews"] == pytest.approx(oracle.matthews_corrcoef(gold, label))
    share = np.exp([list((p.scores or {}).values()) for p in answers])
    assert row["calibration"]["nll"] == pytest.approx(oracle.log_loss(gold, share, labels=LABELS))
    assert (row["unparseable"], row["items"], row["seeds"]) == (0.0, 1000, 1)
    assert (row["form"], row["key"]) == ("discriminative", "classifier")


def test_temperature_of_validation_mends_the_test_and_sets_the_thresholds() -> None:
    (row,) = arm_rows(ways_of([classifier()], "test"), 10, (0.9,))
    told = row["calibration"]
    assert told["temperature"] == pytest.approx(2.0, rel=0.2)
    assert told["fitted_on"] == 800
    assert told["ece_after"] < told["ece"] / 2
    (target,) = row["selective"]["targets"]
    # At the temperature, a threshold speaks of a true probability.
    assert 0.3 < target["threshold"] < 0.95
    assert target["items"] == 800
    assert target["precision_on_test"] > 0.85


def test_without_validation_the_row_says_so_and_claims_no_temperature() -> None:
    (row,) = arm_rows(ways_of([classifier(held_out={})], "test"), 15, (0.9,))
    assert row["calibration"]["temperature"] is None
    assert row["selective"]["targets"][0]["threshold"] is None


def test_items_of_no_known_label_are_wrong_and_tell_the_auroc() -> None:
    odd = classifier(predictions={"test": scored_answers(1, 1000, 1.0, odd=100)}, held_out={})
    (row,) = arm_rows(ways_of([odd], "test"), 15, (0.9,))
    rows = scored_answers(1, 1000, 1.0, odd=100)
    sure = [max((p.scores or {}).values()) for p in rows]
    expected = oracle.roc_auc_score([p.gold != "other" for p in rows], sure)
    assert row["selective"]["out_of_scope_auroc"] == pytest.approx(expected)
    assert row["calibration"]["items"] == 900
    beside = classifier(
        predictions={
            "test": scored_answers(1, 1000), "strange": scored_answers(3, 200, 1.0, odd=200),
        }
    )  # fmt: skip
    (row,) = arm_rows(ways_of([beside], "test"), 15, (0.9,))
    assert row["selective"]["out_of_scope"]["items"] == 200


def test_an_arm_without_scores_has_no_calibration() -> None:
    (row,) = arm_rows(ways_of([asked("generate", rights(0.8, 1))], "test"), 15, (0.9,))
    assert row["calibration"] is row["selective"] is None


def test_costs_are_of_a_thousand_items_over_all_seeds() -> None:
    seeds = [
        classifier(
            seed=seed, costs={"test": Cost(1000, 2.0, wall, 10**8 * (seed + 1), "cpu", 9, 9)}
        )
        for seed, wall in enumerate((3.0, 5.0))
    ]
    (row,) = arm_rows(ways_of(seeds, "test"), 15, ())
    cost = row["cost"]
    assert cost["compute_s_per_1000"] == pytest.approx(4.0)
    assert cost["items_per_s"] == pytest.approx(500.0)
    assert cost["peak_bytes"] == 2 * 10**8
    latencies = [0.001 * (index + 1) for index in range(1000)]
    assert cost["latency_p50_s"] == pytest.approx(np.quantile(latencies * 2, 0.5))
    assert cost["latency_p95_s"] == pytest.approx(np.quantile(latencies * 2, 0.95))
    assert cost["prompt_tokens_per_1000"] == pytest.approx(sum(10 + i % 3 for i in range(1000)))


def test_gpu_seconds_are_those_of_the_clock_and_what_was_not_told_is_none() -> None:
    gpu = classifier(costs={"test": Cost(1000, 2.0, 3.0, 1, "cuda", 0, 0)})
    (row,) = arm_rows(ways_of([gpu], "test"), 15, ())
    assert (row["cost"]["compute_s_per_1000"], row["cost"]["device"]) == (2.0, "cuda")
    (row,) = arm_rows(ways_of([classifier()], "test"), 15, ())
    assert row["cost"]["compute_s_per_1000"] is row["cost"]["device"] is None
    assert row["cost"]["items_per_s"] == pytest.approx(
        1000 / sum(0.001 * (i + 1) for i in range(1000))
    )


def test_answers_of_no_label_are_counted() -> None:
    silent = [
        replace(p, label=None) if i < 50 else p for i, p in enumerate(answers(rights(0.9, 1)))
    ]
    (row,) = arm_rows(
        ways_of([replace(asked("generate", rights(0.9, 1)), predictions={"test": silent})], "test"),
        15, (),
    )  # fmt: skip
    assert row["unparseable"] == pytest.approx(50 / 2000)
