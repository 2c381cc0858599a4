"""The comparison: whole ladders, parts of ladders, and results that do not fit together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from ladder_case import ITEMS, answerer, ladder, losses, reader

from eval.compare import Comparison, ModelResult, compare
from eval.gates import Gate
from eval.known_items import Known
from eval.metrics import label_figures, token_loss
from eval.record import Prediction
from eval.report import report_page
from eval.results import Role
from pipeline.core.arms import Arm
from pipeline.core.errors import IntegrityError


def compared(results: Sequence[ModelResult], **changes: Any) -> Comparison:
    settings: dict[str, Any] = {
        "gates": [],
        "contamination": Known(),
        "domain_suite": "domain",
        "general_suite": "general",
        "task_suite": "test",
    }
    return compare(results, **{**settings, **changes})


def said(comparison: Comparison) -> str:
    return "\n".join(comparison.sentences())


def test_levels_hold_the_token_loss_of_each() -> None:
    levels = compared(ladder()).to_json()["levels"]
    for level in ("L0", "L1", "L2"):
        for kind in ("domain", "general"):
            expected = token_loss(losses(kind, level))
            assert levels[level][f"{kind}_loss"] == pytest.approx(expected)
            low, high = levels[level][f"{kind}_interval"]
            assert low < expected < high


def test_l2_figures_are_those_of_the_first_seed_with_l1() -> None:
    results = ladder()
    other = replace(results[6], losses={"domain": losses("domain", "L0")})
    assert (other.role, other.seed) == ("model", 1)
    changed = [*results[:6], other, *results[7:]]
    assert compared(changed).levels["L2"] == compared(results).levels["L2"]


def test_heads_hold_both_arms_and_their_paired_difference() -> None:
    record = compared(ladder()).to_json()
    assert list(record["heads"]) == ["generative", "classifier"]
    head = record["heads"]["generative"]
    for key in ("with_l1", "without_l1"):
        assert head[key]["low"] < head[key]["accuracy"] < head[key]["high"]
        assert head[key]["seeds"] == 3
    expected = head["with_l1"]["accuracy"] - head["without_l1"]["accuracy"]
    assert head["difference"]["estimate"] == pytest.approx(expected)
    assert head["difference"]["low"] > 0.2
    classifier = record["heads"]["classifier"]["difference"]
    assert classifier["low"] < 0 < classifier["high"]
    assert record["chance"] == pytest.approx(1 / 8)


def test_words_claim_no_more_than_the_intervals() -> None:
    words = said(compared(ladder()))
    assert "L1 helps the generative form: +0." in words
    assert "over 3 paired seeds" in words
    assert "L1 does not demonstrably help the classifier form" in words
    assert "L1 reads domain text better than L0" in words
    assert "L2 has forgotten some general text against L0" in words


def test_swapped_roles_say_that_l1_hurts() -> None:
    swap = {"model": "control", "control": "model"}
    results = [replace(r, role=swap.get(r.role, r.role)) for r in ladder()]  # type: ignore[arg-type]
    assert "L1 hurts the generative form: -0." in said(compared(results))


def test_one_seed_speaks_of_these_weights_alone() -> None:
    comparison = compared(ladder(seeds=1))
    words = said(comparison)
    assert "L1 helps the generative form: " not in words
    assert "For these weights the generative form is better with L1 than without" in words
    assert comparison.heads["generative"]["with_l1"]["covers"] == "items, for these weights"


def test_only_shared_seeds_are_paired() -> None:
    results = [r for r in ladder() if not (r.role == "control" and r.seed == 0)]
    difference = compared(results).heads["generative"]["difference"]
    assert difference["seeds"] == 2
    strangers = [replace(r, seed=r.seed + 10) if r.role == "control" else r for r in ladder()]
    assert compared(strangers).heads["generative"]["difference"] is None
    assert "is not known" in said(compared(strangers))


def test_order_of_rows_changes_nothing() -> None:
    results = ladder()
    shuffled = replace(
        results[2],
        predictions={"test": list(results[2].predictions["test"])[::-1]},
        losses={suite: list(rows)[::-1] for suite, rows in results[2].losses.items()},
    )
    before, after = (compared([*results[:2], r, *results[3:]]) for r in (results[2], shuffled))
    assert before.heads == after.heads
    assert before.steps == after.steps


def test_l1_recipe_alone_compares_text() -> None:
    results = [reader("L0", "base"), reader("L1", "model")]
    gate = Gate("general", "loss", None, "parent", at_most_ratio=1.2)
    comparison = compared(results, task_suite=None, gates=[gate])
    record = comparison.to_json()
    assert (record["heads"], record["chance"], record["forms"]) == ({}, None, None)
    assert record["levels"]["L2"]["domain_loss"] is None
    assert "L1 reads domain text better than L0" in said(comparison)
    assert record["verdict"] == "pass"


def test_figures_of_a_recipe_without_an_l1_are_not_filed_under_it() -> None:
    results = [answerer("classifier", "model", seed, 0.9) for seed in range(3)]
    comparison = compared(results, domain_suite=None, general_suite=None, through_l1=False)
    head = comparison.to_json()["heads"]["classifier"]
    assert head["with_l1"] is None
    assert head["without_l1"]["accuracy"] > 0.5
    assert "The classifier form is above chance" in said(comparison)
    assert "0.9" in report_page(comparison.to_json(), "x", {})


def test_classifier_without_any_text_suite() -> None:
    results = [answerer("classifier", "model", seed, 0.9) for seed in range(3)]
    comparison = compared(results, domain_suite=None, general_suite=None)
    record = comparison.to_json()
    assert record["heads"]["classifier"]["without_l1"] is None
    assert record["heads"]["classifier"]["difference"] is None
    assert record["levels"]["L0"]["domain_loss"] is None
    assert "The classifier form is above chance" in said(comparison)
    assert "L1" not in said(comparison)


def test_missing_control_is_said_where_an_l1_was_made() -> None:
    results = [r for r in ladder() if r.role != "control"]
    assert "Whether L1 helps the generative form was not measured" in said(compared(results))


def test_json_is_plain_and_the_same_every_time() -> None:
    gates = [Gate("test", "accuracy", None, "control", superior_by=0.0)]
    first, second = (
        json.dumps(compared(ladder(), gates=gates).to_json(), allow_nan=False) for _ in range(2)
    )
    assert first == second


def test_models_table_has_every_model_with_its_seconds() -> None:
    results = ladder()
    models = compared(results).to_json()["models"]
    assert len(models) == len(results)
    expected = label_figures(results[2].predictions["test"])["accuracy"]
    assert models[2]["accuracy"] == pytest.approx(expected)
    assert models[2]["seconds"] == {"train": 20.0, "evaluate": 2.0}
    assert models[0]["accuracy"] is None
    assert models[4]["brier"] is not None


def test_gates_are_judged_for_every_head() -> None:
    gates = [
        Gate("test", "accuracy", None, "control", superior_by=0.0),
        Gate("test", "accuracy", "classifier", "chance", superior_by=0.0),
        Gate("general", "loss", None, "base", at_most_ratio=1.03),
        Gate("test", "contamination", at_most=0),
        Gate("test", "accuracy", "classifier", "parent", superior_by=0.0),
    ]
    comparison = compared(ladder(), gates=gates, contamination=Known(3))
    found = [(result.arm, result.status) for result in comparison.gates]
    assert found == [
        ("generate", "pass"),
        ("classifier", "undecided"),
        ("classifier", "pass"),
        (None, "fail"),
        (None, "fail"),
        ("classifier", "undecided"),
    ]
    assert comparison.verdict == "fail"
    assert "3 training rows stand in an evaluation set" in said(comparison)


def test_gate_on_a_suite_that_nobody_answered_is_undecided() -> None:
    comparison = compared(ladder(), gates=[Gate("tset", "accuracy", at_least=0.1)])
    assert comparison.verdict == "undecided"


def test_other_items_are_refused_naming_both_models() -> None:
    results = ladder(seeds=1)
    short = list(results[3].predictions["test"])[: ITEMS - 1]
    results[3] = replace(results[3], predictions={"test": short})
    message = r"suite test: demo-control-generate \(.*\) and demo-model-generate \(.*\) .* item239"
    with pytest.raises(IntegrityError, match=message):
        compared(results)


def test_other_gold_label_is_refused() -> None:
    results = ladder(seeds=1)
    rows = list(results[3].predictions["test"])
    rows[7] = replace(rows[7], gold="label_0")
    results[3] = replace(results[3], predictions={"test": rows})
    with pytest.raises(IntegrityError, match="item7"):
        compared(results)


def test_other_documents_are_refused() -> None:
    results = [reader("L0", "base"), reader("L1", "parent")]
    results[1] = replace(results[1], losses={"domain": losses("domain", "L1", documents=59)})
    with pytest.raises(IntegrityError, match=r"demo-l1 .* demo-l0 .*different documents"):
        compared(results)


def test_item_that_stands_twice_is_refused() -> None:
    results = ladder(seeds=1)
    rows = list(results[2].predictions["test"])
    results[2] = replace(results[2], predictions={"test": [*rows, rows[0]]})
    with pytest.raises(IntegrityError, match="241 rows of 240 items"):
        compared(results)


def test_two_models_of_one_seed_are_refused() -> None:
    results = ladder(seeds=1)
    with pytest.raises(IntegrityError, match="same form, role and seed"):
        compared([*results, results[2]])


def with_references(seeds: int = 3) -> list[ModelResult]:
    shares: dict[Arm, float] = {"tfidf_logreg": 0.55, "nearest": 0.70}
    rungs = [
        replace(answerer(arm, "reference", 0, accuracy), name="rung", level="L0")
        for arm, accuracy in shares.items()
    ]
    return [*ladder(seeds), *rungs]


def test_gates_stand_against_references_and_other_arms() -> None:
    gates = [
        Gate("test", "accuracy", "generate", "tfidf_logreg", superior_by=0.0),
        Gate("test", "accuracy", None, "generate", superior_by=0.0),
        Gate("test", "macro_f1", "generate", "classifier", not_worse_by=0.02),
        Gate("test", "accuracy", "classifier", "nearest", not_worse_by=0.1),
        Gate("test", "ece", "classifier", at_most=0.2),
        Gate("test", "ece", "generate", at_most=0.2),
        Gate("general", "bits_per_byte", against="base", at_most_ratio=1.03),
        Gate("domain", "bits_per_byte", at_most=1.0),
        Gate("test", "accuracy", "generate", "few_shot", superior_by=0.0),
    ]
    comparison = compared(with_references(), gates=gates)
    assert [(result.arm, result.status) for result in comparison.gates] == [
        ("generate", "pass"),
        # Of a gate against one form the other is left.
        ("classifier", "fail"),
        ("generate", "pass"),
        ("classifier", "pass"),
        ("classifier", "pass"),
        ("generate", "undecided"),
        (None, "fail"),
        (None, "pass"),
        ("generate", "undecided"),
    ]
    assert "no few_shot answered this suite" in comparison.gates[-1].text


def test_a_difference_of_one_item_is_not_measured_and_no_number_is_told() -> None:
    one = Prediction("i", "card", "card", None, None, 0.0, 1, 1)
    results = [
        ModelResult("demo", "L2", arm, "model", 0, predictions={"test": [one]})
        for arm in ("classifier", "generate")
    ]
    gate = Gate("test", "macro_f1", "classifier", "generate", not_worse_by=0.1)
    (found,) = compared(results, gates=[gate]).gates
    assert (found.status, found.estimate) == ("undecided", None)
    assert "too few items" in found.text


def test_a_gate_on_the_calibration_error_has_the_bins_that_the_table_has() -> None:
    def told(bins: int) -> tuple[float | None, float, float]:
        gates = [Gate("test", "ece", "classifier", at_most=0.2)]
        found = compared(with_references(), gates=gates, confidence_bins=bins)
        (row,) = [
            row for row in found.arms if row["arm"] == "classifier" and row["role"] == "model"
        ]
        seeds = [
            m["ece"] for m in found.models if m["arm"] == "classifier" and m["role"] == "model"
        ]
        return found.gates[0].estimate, row["calibration"]["ece"], sum(seeds) / len(seeds)

    for bins in (2, 15):
        assert told(bins) == pytest.approx([told(bins)[1]] * 3)


def test_gates_and_forgetting_look_at_what_was_measured_beside() -> None:
    def follows(role: Role, accuracy: float) -> ModelResult:
        one = answerer("generate", role, 0, accuracy)
        return replace(one, predictions={"follows": one.predictions["test"]})

    gates = [
        Gate("follows", "accuracy", "generate", "base", not_worse_by=0.05),
        Gate("follows", "accuracy", "generate", at_least=0.3),
    ]
    beside = [follows("base", 0.8), follows("model", 0.5)]
    comparison = compared(ladder(), gates=gates, beside=beside)
    assert [result.status for result in comparison.gates] == ["fail", "pass"]
    (row,) = [row for row in comparison.forgetting if row["suite"] == "follows"]
    assert (row["against"], row["forgotten"]) == ("base", True)
    assert comparison.arms == compared(ladder()).arms


def test_gate_on_clusters_is_less_sure_than_on_items() -> None:
    gate = Gate("test", "accuracy", "generate", "control", superior_by=0.0)
    names = {f"item{index}": str(index % 12) for index in range(ITEMS)}
    grouped = [
        replace(r, clusters={"test": names}) if r.predictions else r for r in with_references()
    ]
    (alone,), (together,) = (
        compared(results, gates=[gate]).gates for results in (with_references(), grouped)
    )
    assert "over seeds and items" in alone.text
    assert "over seeds and clusters of items" in together.text


def test_comparison_holds_ways_pairs_recommendation_and_disagreements() -> None:
    texts = {"test": {f"item{index}": f"text {index}" for index in range(ITEMS)}}
    record = compared(with_references(), texts=texts, margin=0.05).to_json()
    assert [row["key"] for row in record["arms"]] == [
        "generate", "generate (control)", "classifier", "classifier (control)",
        "tfidf_logreg", "nearest",
    ]  # fmt: skip
    assert len(record["pairs"]) == 8
    assert record["recommendation"]["margin"] == 0.05
    assert record["disagreements"]["items"][0]["text"].startswith("text ")
    # No training rows were asked.
    assert [(row["train_items"], row["gap"]) for row in record["gap"]] == [(0, None), (0, None)]
    assert record["forgetting"][0]["metric"] == "bits_per_byte"
    assert json.dumps(record, allow_nan=False)


def test_a_difference_that_many_comparisons_drown_is_told_as_such() -> None:
    def results(rungs: int) -> list[ModelResult]:
        shares: dict[Arm, float] = {
            "zero_shot": 0.7, "few_shot": 0.705, "tfidf_bayes": 0.71, "tfidf_logreg": 0.7,
        }  # fmt: skip
        beside = [answerer(arm, "reference", 0, share) for arm, share in shares.items()]
        return [*ladder(), *beside[:rungs]]

    alone = said(compared([r for r in results(0) if r.role != "control"]))
    assert "The generative form beats the classifier: +0.0" in alone
    assert "comparisons" not in alone
    words = said(compared(results(4)))
    assert "The generative form looks better than the classifier: +0.0" in words
    assert "over 3 paired seeds; among 17 comparisons that is not shown." in words
    assert "beats" not in words


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_level_that_many_comparisons_drown_only_looks_better(seeds: int) -> None:
    """The verb is chosen after Holm: no sentence says that a level helps and that it does not."""
    comparison = compared(ladder(seeds=seeds))
    shown = said(comparison)
    drowned = replace(comparison, pairs=[{**pair, "holm_p": 0.2} for pair in comparison.pairs])
    words = said(drowned)
    many = len(comparison.pairs)
    assert "looks better with L1" not in shown
    assert "generative form looks better with L1 than without: +0." in words
    assert f"among {many} comparisons that is not shown" in words
    assert "L1 helps the generative form: " not in words
    assert "form is better" not in words


def test_nan_score_is_refused_and_named() -> None:
    results = ladder(seeds=1)
    rows = list(results[4].predictions["test"])
    assert rows[3].scores is not None
    rows[3] = replace(rows[3], scores={**rows[3].scores, "label_0": float("nan")})
    results[4] = replace(results[4], predictions={"test": rows})
    with pytest.raises(IntegrityError, match="item3: a score is no number"):
        compared(results)


def test_suite_without_items_is_refused() -> None:
    results = ladder(seeds=1)
    results[2] = replace(results[2], predictions={"test": []})
    with pytest.raises(IntegrityError, match=r"suite test: .* holds no rows"):
        compared(results)
