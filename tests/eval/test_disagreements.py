"""Where ways disagree, what is known by heart, and what is forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ladder_case import losses, reader
from statsmodels.stats.proportion import (  # type: ignore[import-untyped]
    confint_proportions_2indep,
    proportion_confint,
)
from ways_case import ITEMS, LABELS, answers, asked, rights

from eval.disagreements import disagreements_of
from eval.forgetting import forgetting_of
from eval.gap import difference_of, gaps_of
from eval.metrics import bits_per_byte
from eval.record import Prediction, TextLoss
from eval.report.pairs import gap_section
from eval.results import ModelResult
from eval.statistics import Interval
from eval.ways import ways_of
from pipeline.core.arms import Arm


def answered(arm: Arm, labels: list[str | None], seed: int = 0) -> ModelResult:
    rows = [
        Prediction(f"i{index}", LABELS[0], label, None, None, 0.0, 1, 1)
        for index, label in enumerate(labels)
    ]
    return ModelResult("demo", "L2", arm, "model", seed, predictions={"test": rows})


def test_items_with_the_most_different_answers_come_first_with_their_texts() -> None:
    results = [
        answered("classifier", ["card", "card", "card", "card"]),
        answered("generate", ["card", "fee", None, "card"]),
        answered("joint", ["card", "fee", "pin", "limit"]),
    ]
    found = disagreements_of(ways_of(results, "test"), {"i2": "the text"})
    assert found is not None
    assert found["share"] == 0.75
    assert [item["example_id"] for item in found["items"]] == ["i2", "i1", "i3"]
    assert [item["text"] for item in found["items"]] == ["the text", "i1", "i3"]
    assert found["items"][0]["answers"] == {"classifier": "card", "generate": None, "joint": "pin"}
    assert found["constrained_against_likelihood"] is None


def test_greedy_against_the_likeliest_label_is_a_mean_over_shared_seeds() -> None:
    results = [
        answered("constrained", ["card", "card", "fee", "card"], 0),
        answered("constrained", ["card", "card", "card", "card"], 1),
        answered("likelihood", ["card", "fee", "card", "card"], 0),
        answered("likelihood", ["card", "card", "card", "card"], 1),
    ]
    found = disagreements_of(ways_of(results, "test"), {})
    assert found is not None
    assert found["constrained_against_likelihood"] == pytest.approx(0.25)


def test_at_most_20_items_are_shown_and_one_way_disagrees_with_nobody() -> None:
    results = [asked("classifier", rights(0.9, 1)), asked("generate", rights(0.2, 2))]
    found = disagreements_of(ways_of(results, "test"), {})
    assert found is not None
    assert len(found["items"]) == 20
    assert found["different"] == round(found["share"] * 2000) > 20
    assert disagreements_of(ways_of(results[:1], "test"), {}) is None


def test_references_disagree_only_where_fewer_than_two_models_do() -> None:
    results = [
        asked("classifier", rights(0.9, 1)),
        asked("tfidf_bayes", rights(0.3, 2), role="reference"),
        asked("generate", rights(0.9, 3)),
    ]
    for chosen, arms in ((results, ["classifier", "generate"]),
                         (results[:2], ["classifier", "tfidf_bayes"])):  # fmt: skip
        found = disagreements_of(ways_of(chosen, "test"), {})
        assert found is not None
        assert found["arms"] == arms


def test_gap_interval_is_newcombes() -> None:
    expected = confint_proportions_2indep(95, 100, 150, 200, method="newcomb")
    sides = []
    for right, items in ((95, 100), (150, 200)):
        low, high = proportion_confint(right, items, method="wilson")
        sides.append(Interval(right / items, low, high))
    found = difference_of(*sides)
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.estimate == pytest.approx(0.2)


def test_gap_is_told_of_ways_that_were_asked_their_training_rows() -> None:
    known = replace(
        asked("classifier", rights(0.7, 1)),
        held_out={"train": answers([True] * 190 + [False] * 10)},
    )
    results = [known, asked("generate", rights(0.7, 1))]
    found, other = gaps_of(ways_of(results, "test"))
    assert (found["arm"], found["train"]["estimate"]) == ("classifier", 0.95)
    assert (other["arm"], other["train"]) == ("generate", None)
    test = found["test"]["estimate"]
    assert found["gap"]["estimate"] == pytest.approx(0.95 - test)
    assert found["gap"]["low"] > 0.15
    assert found["train_items"] == 200


def test_training_rows_that_share_a_document_make_the_gap_less_sure() -> None:
    told = answers([n < 190 for n in range(200)])
    alone = replace(asked("classifier", rights(0.7, 1)), held_out={"train": told})
    shared = {p.example_id: f"d{n // 10}" for n, p in enumerate(told)}
    together = replace(alone, clusters={"train": shared})
    widths = []
    for result in (alone, together):
        (found,) = gaps_of(ways_of([result], "test"))
        widths.append(found["gap"]["high"] - found["gap"]["low"])
    assert widths[1] > 1.2 * widths[0]


def test_text_of_the_base_that_reads_worse_is_forgotten() -> None:
    results = [reader("L0", "base"), reader("L1", "model")]
    found = {row["suite"]: row for row in forgetting_of(results, ("domain",))}
    row = found["general"]
    assert list(found) == ["general"]
    assert (row["metric"], row["against"], row["forgotten"]) == ("bits_per_byte", "base", True)
    assert row["model"] == pytest.approx(bits_per_byte(losses("general", "L1")))
    expected = sum(x.nll_sum for x in losses("general", "L1")) / sum(
        x.nll_sum for x in losses("general", "L0")
    )
    assert row["change"]["estimate"] == pytest.approx(expected)
    assert row["words"].endswith("some is forgotten for these weights.")


def test_other_tokens_are_no_hindrance_to_bits_and_other_texts_are() -> None:
    def read(name: str, tokens: int, size: int) -> ModelResult:
        rows = [TextLoss(f"d{n}", 30.0 + n, tokens, size) for n in range(9)]
        role, level = ("base", "L0") if name == "base" else ("model", "L1")
        return ModelResult(name, level, "text", role, 0, losses={"old": rows})  # type: ignore[arg-type]

    (row,) = forgetting_of([read("base", 9, 40), read("demo", 7, 40)], ())
    assert row["change"]["estimate"] == pytest.approx(1.0)
    assert row["forgotten"] is None
    with pytest.raises(Exception, match=r"document d0 \(50 bytes\) stands against another"):
        forgetting_of([read("base", 9, 40), read("demo", 9, 50)], ())


def test_task_of_a_level_below_is_compared_on_the_same_items() -> None:
    def on(suite: str, result: ModelResult) -> ModelResult:
        return replace(result, predictions={suite: result.predictions["test"]})

    results = [
        on("follows", asked("generate", rights(0.8, 1), role="base", name="base")),
        on("follows", asked("generate", rights(0.5, 2))),
    ]
    (row,) = forgetting_of(results, ("test",))
    right = [np.mean([p.label == p.gold for p in r.predictions["follows"]]) for r in results]
    assert row["change"]["estimate"] == pytest.approx(right[1] - right[0])
    assert (row["metric"], row["arm"], row["forgotten"]) == ("accuracy", "generate", True)
    assert len(results[0].predictions["follows"]) == ITEMS


def test_a_model_whose_training_rows_could_not_be_asked_is_named() -> None:
    """Rows that lie several to a block are none that could be asked by itself."""
    ways = ways_of([asked("classifier", rights(0.9, 1)), asked("tfidf_bayes", rights(0.8, 2),
                    role="reference")], "test")  # fmt: skip
    (found,) = gaps_of(ways)
    assert (found["arm"], found["train"], found["gap"]) == ("classifier", None, None)
    shown = gap_section({"gap": [found]})
    assert shown is not None
    assert "Not measured of classifier head: no training row could be asked" in shown.text
